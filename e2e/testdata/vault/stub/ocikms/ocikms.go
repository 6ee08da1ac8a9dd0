// Package ocikms stands in for a key service that the tests do not seal with: it is never opened.
package ocikms

import (
	"context"
	"errors"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
)

// The names that Vault refers to.
const (
	EnvOciKmsWrapperCryptoEndpoint       = "EnvOciKmsWrapperCryptoEndpoint"
	EnvOciKmsWrapperKeyId                = "EnvOciKmsWrapperKeyId"
	EnvOciKmsWrapperManagementEndpoint   = "EnvOciKmsWrapperManagementEndpoint"
	EnvVaultOciKmsSealCryptoEndpoint     = "EnvVaultOciKmsSealCryptoEndpoint"
	EnvVaultOciKmsSealKeyId              = "EnvVaultOciKmsSealKeyId"
	EnvVaultOciKmsSealManagementEndpoint = "EnvVaultOciKmsSealManagementEndpoint"
	KmsConfigCryptoEndpoint              = "KmsConfigCryptoEndpoint"
	KmsConfigKeyId                       = "KmsConfigKeyId"
	KmsConfigManagementEndpoint          = "KmsConfigManagementEndpoint"
)

// Wrapper opens nothing.
type Wrapper struct{ wrapping.Wrapper }

// NewWrapper returns one.
func NewWrapper() *Wrapper { return &Wrapper{} }

// SetConfig refuses.
func (*Wrapper) SetConfig(context.Context, ...wrapping.Option) (*wrapping.WrapperConfig, error) {
	return nil, errors.New("left out")
}
