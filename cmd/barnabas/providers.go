package main

import (
	"slices"

	"barnabas/configprovider"
	"barnabas/configprovider/aws"
	"barnabas/configprovider/azure"
	"barnabas/configprovider/gcp"
	"barnabas/configprovider/kubernetes"
	"barnabas/configprovider/vault"
)

// providerKinds are the kinds of config providers that need nothing of a running worker.
func providerKinds(environ []string) []configprovider.Kind {
	return slices.Concat(configprovider.Kinds(environ), []configprovider.Kind{vault.Kind(environ), gcp.Kind(), azure.Kind(environ)}, aws.Kinds(), kubernetes.Kinds(environ))
}
