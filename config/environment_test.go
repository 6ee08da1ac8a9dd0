package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironmentVariablesAreSettings(t *testing.T) {
	t.Parallel()
	got := FromEnvironment([]string{
		"CONNECT_GROUP_ID=g", "CONNECT_BOOTSTRAP_SERVERS=a=b:9092", "CONNECT_REST_ADVERTISED_HOST_NAME=h", "CONNECT_PLUGIN_PATH=/p",
		"CONNECT_A__B___C____D=x", "CONNECT_GOSSIP_SECRET=${file:/s:k}", "CONNECT_CONFIG_PROVIDERS_FILE_PARAM_ALLOWED_PATHS=/s", "CONNECT_EMPTY=",
		"CONNECT_LOG4J_ROOT_LOGLEVEL=INFO", "CONNECT_LOG4J_LOGGERS=a=WARN", "CONNECT_LOG4J2_X=y", "CONNECT_CUB_KAFKA_TIMEOUT=60",
		"CONNECT_SERVICE_HOST=10.0.0.1", "CONNECT_SERVICE_PORT_REST=8083", "CONNECT_PORT=tcp://10.0.0.1:8083", "CONNECT_PORT_8083_TCP_ADDR=10.0.0.1",
		"CONNECT_=x", "CONNECT_NOVALUE", "PATH=/bin", "XCONNECT_GROUP_ID=no", "=C:=odd",
	})
	want := map[string]string{
		"group.id": "g", "bootstrap.servers": "a=b:9092", "rest.advertised.host.name": "h", "plugin.path": "/p", "a-b_c_.d": "x",
		"gossip.secret": "${file:/s:k}", "config.providers.file.param.allowed.paths": "/s", "empty": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNearestFindsTyposOnly(t *testing.T) {
	t.Parallel()
	known := []string{"bootstrap.servers", "group.id", "listeners", "rest.port", "offset.flush.interval.ms", "gossip.join", "acks"}
	for _, row := range []struct{ name, want string }{
		{"bootstrap.server", "bootstrap.servers"},
		{"boostrap.servers", "bootstrap.servers"},
		{"BOOTSTRAP_SERVERS", "bootstrap.servers"},
		{"group-id", "group.id"},
		{"gruop.id", "group.id"},
		{"listener", "listeners"},
		{"offset.flush.interval", "offset.flush.interval.ms"},
		{"group.id", "group.id"},
		{"colour", ""},
		{"x", ""},
		{"", ""},
		{"gossip.secret", ""},
		{"akcs", "acks"},
		{"jack", ""},
	} {
		if got := Nearest(row.name, known); got != row.want {
			t.Errorf("%q: got %q, want %q", row.name, got, row.want)
		}
	}
}
