// A Kubernetes API server for the tests: the project's own kube-apiserver with its etcd in one process. It is given a directory, which
// it keeps everything in, so that it can be started again, and the port to listen on. DIR/apiserver.crt is what its certificate
// is proven with; the token "admin" may do everything.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: kube DIR PORT")
		os.Exit(2)
	}
	dir, port := os.Args[1], os.Args[2]
	storage, err := prepare(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	command := app.NewAPIServerCommand()
	command.SetArgs([]string{
		"--etcd-servers=" + storage, "--secure-port=" + port, "--bind-address=127.0.0.1", "--cert-dir=" + dir,
		"--authorization-mode=RBAC", "--token-auth-file=" + filepath.Join(dir, "tokens.csv"),
		"--service-account-issuer=https://kubernetes.default.svc", "--api-audiences=https://kubernetes.default.svc",
		"--service-account-key-file=" + filepath.Join(dir, "account.pem"), "--service-account-signing-key-file=" + filepath.Join(dir, "account.pem"),
		"--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none", "--profiling=false",
		// No token but one that was asked for is needed, and nobody runs pods.
		"--disable-admission-plugins=ServiceAccount",
	})
	os.Exit(cli.Run(command))
}

// prepare writes the keys that are not there yet and starts the storage; it returns its address.
func prepare(dir string) (string, error) {
	if err := os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte("admin,admin,1,system:masters\n"), 0o600); err != nil {
		return "", err
	}
	key := filepath.Join(dir, "account.pem")
	if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return "", err
		}
		der, err := x509.MarshalECPrivateKey(private)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			return "", err
		}
	}
	config := embed.NewConfig()
	config.Dir, config.LogLevel = filepath.Join(dir, "etcd"), "error"
	config.UnsafeNoFsync = true
	var urls []url.URL
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		urls = append(urls, url.URL{Scheme: "http", Host: l.Addr().String()})
		l.Close()
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = urls[:1], urls[:1]
	config.ListenPeerUrls = urls[1:]
	// The name that the storage has of itself has to be the same the next time.
	config.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	config.InitialCluster = config.Name + "=http://127.0.0.1:2380"
	storage, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	select {
	case <-storage.Server.ReadyNotify():
		return urls[0].String(), nil
	case err := <-storage.Err():
		return "", err
	case <-time.After(time.Minute):
		return "", errors.New("the storage did not begin within a minute")
	}
}
