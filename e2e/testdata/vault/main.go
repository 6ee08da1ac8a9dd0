// A Vault server for the end-to-end tests: HashiCorp's own core and HTTP API, with the storage in memory and only the
// engines and logins that the tests need, so that it is built in minutes. It listens on the address that it is given, writes
// its address and root token as JSON to the file that it is given, and ends with the process.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	log "github.com/hashicorp/go-hclog"
	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

var (
	logins  = map[string]logical.Factory{"approle": approle.Factory, "jwt": jwt.Factory, "kubernetes": kubernetes.Factory}
	engines = map[string]logical.Factory{"kv": kv.Factory, "leased-kv": vault.LeasedPassthroughBackendFactory}
)

// builtin lists what there is.
type builtin struct{}

func of(kind consts.PluginType) map[string]logical.Factory {
	switch kind {
	case consts.PluginTypeCredential:
		return logins
	case consts.PluginTypeSecrets:
		return engines
	}
	return nil
}

func (builtin) Contains(name string, kind consts.PluginType) bool { return of(kind)[name] != nil }

func (builtin) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	f := of(kind)[name]
	return func() (any, error) { return f, nil }, f != nil
}

func (builtin) Keys(kind consts.PluginType) []string { return slices.Sorted(maps.Keys(of(kind))) }

func (builtin) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, of(kind)[name] != nil
}

func (builtin) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func main() {
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(address, file string) error {
	logger := log.New(&log.LoggerOptions{Output: os.Stderr, Level: log.Warn})
	store, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: store, Logger: logger, DisableMlock: true, CredentialBackends: logins, LogicalBackends: engines, BuiltinRegistry: builtin{},
	})
	if err != nil {
		return err
	}
	one := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(context.Background(), &vault.InitParams{BarrierConfig: one, RecoveryConfig: one})
	if err != nil {
		return err
	}
	for _, share := range made.SecretShares {
		if _, err := core.Unseal(share); err != nil {
			return err
		}
	}
	if core.Sealed() {
		return errors.New("the server is sealed")
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	told, err := json.Marshal(map[string]string{"address": "http://" + listener.Addr().String(), "token": made.RootToken})
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".part", told, 0o600); err != nil {
		return err
	}
	if err := os.Rename(file+".part", file); err != nil {
		return err
	}
	server := &http.Server{
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{Type: "tcp"}}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	return server.Serve(listener)
}
