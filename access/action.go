package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Class is the kind of access that an action is.
type Class string

// The classes. A list holds only what the caller may see.
const (
	Read  Class = "read"
	Write Class = "write"
	List  Class = "list"
)

// Action is something that can be allowed or denied.
type Action struct {
	Name string
	// Type is that of its resources, as "k2k:app".
	Type  string
	Class Class
	// includedIn are the actions whose right includes this one.
	includedIn []string
}

// types are the resources: how many segments the id has, or 0 for any number, and how it is written.
var types = map[string]struct {
	segments int
	form     string
}{
	"k2k:app":                       {1, "k2k:app:NAME"},
	"kubernetes:namespace":          {3, "kubernetes:namespace:ENVIRONMENT/CLUSTER/NAMESPACE"},
	"environments:environment":      {1, "environments:environment:ENVIRONMENT"},
	"environments:kafka-connection": {2, "environments:kafka-connection:ENVIRONMENT/CONNECTION"},
	"connect:connector":             {0, "connect:connector:NAME"},
	"connect:cluster":               {0, "connect:cluster:GROUP.ID"},
	"secrets:secret":                {0, "secrets:secret:PATH"},
}

// actions is the table of all actions, by name.
var actions = func() map[string]Action {
	table := map[string]Action{}
	add := func(of string, class Class, names ...string) {
		service, _, _ := strings.Cut(of, ":")
		for _, name := range names {
			table[service+":"+name] = Action{Name: service + ":" + name, Type: of, Class: class}
		}
	}
	add("k2k:app", Write, "CreateApp", "UpdateApp", "UpsertApp", "DeleteApp", "ManageOffsets")
	add("k2k:app", Read, "GetApp")
	add("k2k:app", List, "ListApps")
	add("kubernetes:namespace", Write, "DeployApps")
	add("environments:environment", List, "ListEnvironments")
	add("environments:environment", Read, "GetEnvironmentDetails", "AccessEnvironment")
	add("environments:kafka-connection", Write, "UpsertKafkaConnection", "DeleteKafkaConnection")
	add("environments:kafka-connection", Read, "GetKafkaConnectionDetails", "UseKafkaConnection")
	add("environments:kafka-connection", List, "ListKafkaConnections")
	add("connect:connector", List, "ListConnectors")
	add("connect:connector", Read, "GetConnector", "GetConnectorConfig", "GetConnectorStatus", "GetConnectorTasks", "GetConnectorTopics", "GetConnectorOffsets", "GetConnectorHistory", "GetReplication")
	add("connect:connector", Write, "CreateConnector", "UpdateConnectorConfig", "DeleteConnector", "PauseConnector", "ResumeConnector", "StopConnector", "RestartConnector",
		"RestartConnectorTask", "ResetConnectorTopics", "AlterConnectorOffsets", "ResetConnectorOffsets", "RollBackConnector")
	add("connect:cluster", Read, "GetCluster", "GetPlugins", "ValidateConfig", "GetLoggers")
	add("connect:cluster", Write, "SetLoggers")
	add("secrets:secret", List, "ListSecrets")
	add("secrets:secret", Read, "ReadSecret", "GetSecretReferences")
	add("secrets:secret", Write, "WriteSecret", "DeleteSecret", "RotateSecret")
	for name, class := range map[string]Class{
		"audit:Read": Read, "admin:GetWorkers": Read, "admin:DrainWorkers": Write, "admin:GetRoles": Read, "admin:ManageRoles": Write, "admin:GetEvidence": Read,
	} {
		table[name] = Action{Name: name, Type: "connect:cluster", Class: class}
	}
	// To see a connection includes the right to use it.
	use := table["environments:UseKafkaConnection"]
	use.includedIn = []string{"environments:GetKafkaConnectionDetails"}
	table[use.Name] = use
	return table
}()

// Actions returns all actions, sorted by name.
func Actions() []Action {
	var all []Action
	for _, name := range slices.Sorted(maps.Keys(actions)) {
		all = append(all, actions[name])
	}
	return all
}

// governs returns the resources on which a right to do an action on one may be
// granted: the resource, and for a connection its environment.
func (a Action) governs(resource string) []string {
	id, ok := strings.CutPrefix(resource, "environments:kafka-connection:")
	if !ok {
		return []string{resource}
	}
	environment, _, _ := strings.Cut(id, "/")
	return []string{resource, "environments:environment:" + environment}
}

// checkResource tells what is wrong with a resource of an action.
func (a Action) checkResource(resource string) error {
	of := types[a.Type]
	id, ok := strings.CutPrefix(resource, a.Type+":")
	if !ok || id == "" {
		return fmt.Errorf("the resource of %s is %s, not %q", a.Name, of.form, resource)
	}
	if n := strings.Count(id, "/") + 1; of.segments > 0 && n != of.segments {
		return fmt.Errorf("the resource of %s is %s, not %q", a.Name, of.form, resource)
	}
	return nil
}

// Resource names a resource of a type, as Resource("k2k:app", "orders").
func Resource(of, id string) string { return of + ":" + id }

// CheckQuestion tells what is wrong with an action, or with a resource of it.
func CheckQuestion(action, resource string) error {
	a, known := actions[action]
	if !known {
		return fmt.Errorf("there is no action %q%s", action, nearest(action))
	}
	return a.checkResource(resource)
}
