package rest

import (
	"context"
	"net/http"
)

// activeTopics is Connect's ActiveTopicsInfo, which it gives in a map by connector.
type activeTopics struct {
	Topics []string `json:"topics"`
}

// getTopics tells which topics a connector has written to (KIP-558). As in Connect, one that is not there has none.
func (s *Server) getTopics(ctx context.Context, r *request) (answer, error) {
	name := r.param("connector")
	topics, err := s.w.ActiveTopics(ctx, name)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]activeTopics{name: {orEmpty(topics)}})
}

func (s *Server) resetTopics(ctx context.Context, r *request) (answer, error) {
	if err := s.w.ResetTopics(ctx, r.param("connector")); err != nil {
		return answer{}, err
	}
	return empty(http.StatusAccepted)
}
