package worker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"barnabas/clientconfig"
	"barnabas/config"
	"barnabas/connection"
	"barnabas/worker/herder"
)

// checkTimeout bounds the check of a connection.
const checkTimeout = 10 * time.Second

// ConnectionCheck is what a try of a connection has shown.
type ConnectionCheck struct {
	Environment string `json:"environment"`
	Name        string `json:"name"`
	Version     int64  `json:"version"`
	WorkerID    string `json:"worker_id"`
	// OK says that it works, and that the principal has exactly what the scope asks for.
	OK    bool        `json:"ok"`
	Steps []CheckStep `json:"steps"`
	// Principal is whom the brokers see, as far as the settings tell.
	Principal string `json:"principal,omitempty"`
	ClusterID string `json:"cluster_id,omitempty"`
	// Source is what the rights were learned from: acls, operations (what the brokers say of what is there) or open (there is
	// no authorizer); empty: they were not.
	Source string `json:"source,omitempty"`
	connection.Judgement
	// Grant is the minimal grant for the scope.
	Grant connection.Grant `json:"grant"`
}

// CheckStep is one step of a try: references, reachable, tls, authenticated, rights.
type CheckStep struct {
	Step   string `json:"step"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// CheckConnection connects as the clients of a connection do and says what its principal may do, compared with its scope. It is done by
// a worker that the placement allows: the error is an *ElsewhereError if this is none and another one is there.
func (w *Worker) CheckConnection(ctx context.Context, name connection.Name) (ConnectionCheck, error) {
	var c Connection
	err := w.read(ctx, func(m *herder.Machine) error {
		var ok bool
		if c, ok = w.described(m, name); !ok {
			return notFound("Connection %s not found", name)
		}
		rules, err := herder.ParsePlacement(c.Placement)
		if err != nil {
			return &Error{ErrInvalid, fmt.Sprintf("The placement of connection %s: %v", name, err)}
		}
		if rules.Matches(w.o.File.Labels) {
			return nil
		}
		joins, present := m.Members()
		for _, j := range joins {
			if present[j.Worker] && j.URL != "" && rules.Matches(j.Labels) {
				return &ElsewhereError{j.URL}
			}
		}
		return &Error{ErrUnavailable, fmt.Sprintf("No worker has the labels %s that the placement of connection %s asks for", c.Placement, name)}
	})
	if err != nil {
		return ConnectionCheck{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	k := &check{w: w, of: c, out: ConnectionCheck{
		Environment: name.Env, Name: name.Name, Version: c.Version, WorkerID: w.ID(), Judgement: connection.Judgement{Needs: []connection.Finding{}, Overbroad: []connection.Excess{}},
	}}
	k.run(ctx)
	return k.out, nil
}

// check is a try under way.
type check struct {
	w   *Worker
	of  Connection
	out ConnectionCheck

	mu      sync.Mutex
	reached map[string]error // addresses that were dialled, nil if TCP connected
}

func (k *check) step(step string, ok bool, format string, args ...any) {
	k.out.Steps = append(k.out.Steps, CheckStep{step, ok, fmt.Sprintf(format, args...)})
}

func (k *check) run(ctx context.Context) {
	needs := k.of.Needs()
	bootstrap := k.of.Config["bootstrap.servers"]
	k.out.Grant = connection.NewGrant("User:<PRINCIPAL>", bootstrap, needs, k.of.Quota)
	built, ok := k.build(ctx)
	if !ok {
		return
	}
	k.out.Principal = built.Seen()
	k.out.Grant = connection.NewGrant(k.out.Principal, bootstrap, needs, k.of.Quota)
	dial := built.DialWith(k.dial)
	client, err := kgo.NewClient(append(slices.Clone(built.Opts), kgo.Dialer(dial), kgo.RequestRetries(2), kgo.RetryTimeout(checkTimeout/2))...)
	if err != nil {
		k.step("reachable", false, "%s", err)
		return
	}
	defer client.Close()
	meta, err := k.metadata(ctx, client)
	if !k.connected(built, err) {
		return
	}
	if meta.ClusterID != nil {
		k.out.ClusterID = *meta.ClusterID
	}
	seen, err := k.rights(ctx, client, meta)
	if err != nil {
		k.step("rights", false, "%s", err)
		return
	}
	k.out.Judgement = connection.Judge(needs, seen, bootstrap)
	k.judge()
}

// build resolves and reads the settings.
func (k *check) build(ctx context.Context) (*clientconfig.Client, bool) {
	written := maps.Clone(k.of.Config)
	if len(k.of.Hosts) > 0 {
		written[connection.HostsKey] = strings.Join(k.of.Hosts, ",")
	}
	settings, uses, err := k.w.o.Resolver.Resolve(ctx, written)
	if err != nil {
		k.step("references", false, "%s", err)
		return nil, false
	}
	refs := []string{}
	for _, u := range uses {
		text := u.Reference
		if u.Version != "" {
			text += " version " + u.Version
		}
		refs = append(refs, text)
	}
	// As Layers has it: settings of connectors may name no endpoints or files that the worker does not allow.
	conn := config.Settings{connection.SourceKey: {Written: k.of.Name}}
	for key, s := range settings {
		conn[connection.SourceKey+"."+key] = s
	}
	built, err := clientconfig.Build(clientconfig.Layers("source-admin", k.w.o.File.Settings, conn), clientconfig.Admin)
	if err != nil {
		k.step("references", len(refs) > 0, "%d resolved", len(refs))
		k.step("settings", false, "%s", err)
		return nil, false
	}
	if len(refs) > 0 {
		k.step("references", true, "%s", strings.Join(refs, ", "))
	}
	return built, true
}

func (k *check) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dial := k.w.o.Dialer
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, address)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reached == nil {
		k.reached = map[string]error{}
	}
	k.reached[address] = err
	return conn, err
}

// connected tells of the steps up to the login, and whether all were taken.
func (k *check) connected(built *clientconfig.Client, err error) bool {
	k.mu.Lock()
	var reached, not []string
	for _, address := range slices.Sorted(maps.Keys(k.reached)) {
		if why := k.reached[address]; why != nil {
			not = append(not, fmt.Sprintf("%s (%s)", address, why))
		} else {
			reached = append(reached, address)
		}
	}
	k.mu.Unlock()
	if len(reached) == 0 {
		if not == nil {
			not = []string{fmt.Sprint(err)}
		}
		k.step("reachable", false, "not %s", strings.Join(not, ", "))
		return false
	}
	detail := strings.Join(reached, ", ")
	if not != nil {
		detail += "; not " + strings.Join(not, ", ")
	}
	k.step("reachable", true, "%s", detail)
	secure := strings.HasSuffix(built.Report.Protocol, "SSL")
	if secure && err != nil && tlsError(err) {
		k.step("tls", false, "%s", err)
		return false
	}
	if secure {
		k.step("tls", true, "%s", built.Report.Protocol)
	} else {
		k.step("tls", true, "none: %s", built.Report.Protocol)
	}
	if err != nil {
		k.step("authenticated", false, "as %s: %s", k.out.Principal, err)
		return false
	}
	how := built.Report.Mechanism
	if how == "" {
		how = built.Report.Protocol
	}
	k.step("authenticated", true, "as %s by %s", k.out.Principal, how)
	return true
}

// tlsError says whether an error is one of the handshake.
func tlsError(err error) bool {
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	return errors.As(err, &authority) || errors.As(err, &invalid) || errors.As(err, &host) || errors.As(err, &record) || strings.Contains(err.Error(), "TLS handshake")
}

// metadata asks for all topics that the principal may see, and what it may do with them.
func (k *check) metadata(ctx context.Context, client *kgo.Client) (*kmsg.MetadataResponse, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	req.IncludeTopicAuthorizedOperations, req.IncludeClusterAuthorizedOperations = true, true
	return req.RequestWith(ctx, client)
}

// rights asks what the principal may do: by the ACLs, if it may list them, and by what the brokers say.
func (k *check) rights(ctx context.Context, client *kgo.Client, meta *kmsg.MetadataResponse) (connection.Seen, error) {
	seen := connection.Seen{Principal: k.out.Principal, Topics: map[string][]string{}}
	for _, t := range meta.Topics {
		if t.Topic != nil && t.ErrorCode == 0 {
			seen.Topics[*t.Topic] = operations(t.AuthorizedOperations)
		}
	}
	seen.Cluster = k.cluster(ctx, client, meta)
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.SecurityDisabled):
		k.out.Source, seen.Open = "open", true
		return seen, nil
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		k.out.Source = "operations"
		return seen, nil
	case err != nil:
		return seen, fmt.Errorf("list the ACLs: %w", err)
	}
	k.out.Source, seen.Listed = "acls", true
	for _, r := range resp.Resources {
		at := connection.Resource{Type: resourceType(r.ResourceType), Name: r.ResourceName, Prefix: r.ResourcePatternType == kmsg.ACLResourcePatternTypePrefixed}
		for _, acl := range r.ACLs {
			if acl.Principal == seen.Principal || acl.Principal == "User:*" {
				seen.Bindings = append(seen.Bindings, connection.Binding{
					Right: connection.Right{Resource: at, Operation: acl.Operation.String()}, Principal: acl.Principal, Host: acl.Host,
					Deny: acl.PermissionType == kmsg.ACLPermissionTypeDeny,
				})
			}
		}
	}
	return seen, nil
}

// cluster are the operations on the cluster; since Kafka 2.8 brokers tell them elsewhere than in metadata.
func (k *check) cluster(ctx context.Context, client *kgo.Client, meta *kmsg.MetadataResponse) []string {
	if all := operations(meta.AuthorizedOperations); all != nil {
		return all
	}
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeClusterAuthorizedOperations = true
	resp, err := req.RequestWith(ctx, client)
	if err != nil || resp.ErrorCode != 0 {
		return nil
	}
	return operations(resp.ClusterAuthorizedOperations)
}

// operations reads a field of bits; nil: the broker has not said.
func operations(bits int32) (names []string) {
	if bits == -1<<31 {
		return nil
	}
	for _, o := range kadm.DecodeACLOperations(bits) {
		names = append(names, o.String())
	}
	return names
}

func resourceType(t kmsg.ACLResourceType) string {
	switch t {
	case kmsg.ACLResourceTypeTopic:
		return connection.Topic
	case kmsg.ACLResourceTypeGroup:
		return connection.Group
	case kmsg.ACLResourceTypeTransactionalId:
		return connection.TransactionalID
	case kmsg.ACLResourceTypeCluster:
		return connection.Cluster
	}
	return strings.ToLower(strings.ReplaceAll(t.String(), "_", "-"))
}

// judge tells of the rights as a step.
func (k *check) judge() {
	count := map[string]int{}
	for _, f := range k.out.Needs {
		count[f.State]++
	}
	exact := count[connection.Missing]+count[connection.Unknown]+len(k.out.Overbroad) == 0
	switch {
	case len(k.out.Needs) == 0:
		exact = false
		k.step("rights", false, "the connection has no scope to compare with: set scope.read or scope.write")
	default:
		k.step("rights", exact, "%d present, %d missing, %d unknown, %d beyond the scope", count[connection.Present], count[connection.Missing], count[connection.Unknown], len(k.out.Overbroad))
	}
	k.out.OK = exact
}
