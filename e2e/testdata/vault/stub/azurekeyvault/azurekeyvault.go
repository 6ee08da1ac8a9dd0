// Package azurekeyvault stands in for a key service that the tests do not seal with: it is never opened.
package azurekeyvault

import (
	"context"
	"errors"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
)

// The names that Vault refers to.
const (
	EnvAzureKeyVaultWrapperKeyName   = "EnvAzureKeyVaultWrapperKeyName"
	EnvAzureKeyVaultWrapperVaultName = "EnvAzureKeyVaultWrapperVaultName"
	EnvVaultAzureKeyVaultKeyName     = "EnvVaultAzureKeyVaultKeyName"
	EnvVaultAzureKeyVaultVaultName   = "EnvVaultAzureKeyVaultVaultName"
)

// Wrapper opens nothing.
type Wrapper struct{ wrapping.Wrapper }

// NewWrapper returns one.
func NewWrapper() *Wrapper { return &Wrapper{} }

// SetConfig refuses.
func (*Wrapper) SetConfig(context.Context, ...wrapping.Option) (*wrapping.WrapperConfig, error) {
	return nil, errors.New("left out")
}

// WithDisallowEnvVars is no option.
func WithDisallowEnvVars(bool) wrapping.Option { return func() any { return nil } }
