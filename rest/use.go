package rest

import (
	"context"
	"strconv"

	"barnabas/access"
	kafka "barnabas/connection"
)

// Who has a connector use a Kafka connection has it connect under an identity that is not theirs. So each configuration that is
// written, or tried, needs the right to use every connection that it names.

func kafkaConnectionResource(name string) string {
	return access.Resource("environments:kafka-connection", name)
}

// onConnection is the permission for an action on the Kafka connection that the path names.
func onConnection(action string) permission {
	return func(_ context.Context, _ *Server, r *request) demand {
		return demand{action: action, resource: kafkaConnectionResource(r.param("env") + "/" + r.param("name"))}
	}
}

// onConnections is the permission for a list of Kafka connections, of which the handler leaves out what the caller may not see.
func onConnections(_ context.Context, _ *Server, r *request) demand {
	env := r.param("env")
	if env == "" {
		env = "*"
	}
	return demand{action: "environments:ListKafkaConnections", resource: kafkaConnectionResource(env + "/*"), list: true}
}

// lists tells whether the caller of a request may see in a list that a Kafka connection is there.
func (s *Server) lists(r *request, name string) bool {
	return s.o.Roles == nil || s.decide(r, "environments:ListKafkaConnections", kafkaConnectionResource(name)).Allowed
}

// patches is the permission for PATCH config, which leaves in the configuration what is not in the body.
func patches(ctx context.Context, s *Server, r *request) demand {
	d := onConnector("connect:UpdateConnectorConfig")(ctx, s, r)
	d.uses = connectionsInBody(r)
	if info, err := s.w.Connector(ctx, r.param("connector")); err == nil {
		d.uses = append(d.uses, kafka.Names(info.Config)...)
	}
	return d
}

// validates is the permission for a validation, which may connect.
func validates(ctx context.Context, s *Server, r *request) demand {
	d := onCluster("connect:ValidateConfig")(ctx, s, r)
	d.uses = connectionsInBody(r)
	return d
}

// rollsBack is the permission for a roll-back, which writes the configuration of a version.
func rollsBack(ctx context.Context, s *Server, r *request) demand {
	d := onConnector("connect:RollBackConnector")(ctx, s, r)
	fields, err := readOurs(r.body)
	if err != nil {
		return d // the handler refuses it
	}
	number, err := strconv.ParseInt(string(fields["version"]), 10, 64)
	if err != nil {
		return d // likewise
	}
	if v, err := s.w.ConfigVersion(ctx, r.param("connector"), number); err == nil {
		d.uses = kafka.Names(v.Config)
	}
	return d
}

// connectionsInBody are the connections that the configuration in a body names. What the handler cannot read it refuses.
func connectionsInBody(r *request) []kafka.Name {
	written, err := readStrings(r.body)
	if err != nil {
		return nil
	}
	return namedConnections(written)
}

func namedConnections(written map[string]*string) []kafka.Name {
	values := make(map[string]string, len(written))
	for key, value := range written {
		if value != nil {
			values[key] = *value
		}
	}
	return kafka.Names(values)
}
