package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSecretsAreEqualByValue(t *testing.T) {
	t.Parallel()
	a := Settings{"k": {Written: "${e:k}", Value: NewSecret("v")}}
	if diff := cmp.Diff(a, Settings{"k": {Written: "${e:k}", Value: NewSecret("v")}}); diff != "" {
		t.Errorf("equal settings differ: %s", diff)
	}
	if NewSecret("v").Equal(NewSecret("w")) || !(Secret{}).Equal(NewSecret("")) || (Secret{}).Reveal() != "" {
		t.Error("secrets are compared by something else than their values")
	}
}
