package rest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var openAPI []byte

// openAPIJSON returns the description of the API as JSON.
var openAPIJSON = sync.OnceValues(func() ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(openAPI, &doc); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	return json.Marshal(doc)
})

func getOpenAPI(context.Context, *request) (answer, error) {
	body, err := openAPIJSON()
	return answer{status: http.StatusOK, contentType: jsonType, body: body}, err
}
