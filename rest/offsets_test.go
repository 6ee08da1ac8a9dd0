package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"barnabas/worker"
)

// What Kafka Connect 4.3.1 answers to offsets of a stopped mirror, asked on three workers, so that most requests are forwarded.
func TestOffsetsOfAStoppedMirror(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	config := map[string]string{
		"connector.class": "org.apache.kafka.connect.mirror.MirrorSourceConnector", "source.cluster.alias": "A", "target.cluster.alias": "B",
		"source.cluster.bootstrap.servers": c.bootstrap(), "target.cluster.bootstrap.servers": c.bootstrap(),
	}
	if _, err := c.nodes[0].client.Create(t.Context(), "m", config, worker.Stopped); err != nil {
		t.Fatal(err)
	}
	c.nodes[0].waitFor("m", "STOPPED", 0)
	at := func(partition, offset string) string {
		return fmt.Sprintf(`{"offsets":[{"partition":%s,"offset":%s}]}`, partition, offset)
	}
	const orders = `{"topic":"orders","partition":0,"cluster":"A"}`
	for i, row := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"PATCH", "m", at(orders, `{"offset":41}`), 200, `{"message":"The offsets for this connector have been altered successfully"}`},
		{"GET", "m", "", 200, `{"offsets":[{"partition":{"cluster":"A","partition":0,"topic":"orders"},"offset":{"offset":41}}]}`},
		{"PATCH", "m", at(`{"cluster":"Z","partition":0,"topic":"orders"}`, `{"offset":1}`), 200, `{"message":"The offsets for this connector have been altered successfully"}`},
		{"PATCH", "m", at(orders, `null`), 200, `{"message":"The offsets for this connector have been altered successfully"}`},
		{"GET", "m", "", 200, `{"offsets":[{"partition":{"cluster":"Z","partition":0,"topic":"orders"},"offset":{"offset":1}}]}`},
		{"PATCH", "m", at(orders, `{"offset":[1]}`), 500, `{"error_code":500,"message":"Offsets may only contain primitive types as values, but field offset contains ARRAY"}`},
		{"PATCH", "m", at(orders, `{"offset":-1}`), 500, `{"error_code":500,"message":"Source offset {offset=-1} for source partition {cluster=A, partition=0, topic=orders} has an invalid value -1 for the 'offset' key, which cannot be negative"}`},
		{"PATCH", "m", `{"offsets":[]}`, 400, `{"error_code":400,"message":"Partitions / offsets need to be provided for an alter offsets request"}`},
		{"PATCH", "m", `{"offsets":null}`, 400, `{"error_code":400,"message":"Partitions / offsets need to be provided for an alter offsets request"}`},
		{"PATCH", "nope", `{}`, 400, `{"error_code":400,"message":"Partitions / offsets need to be provided for an alter offsets request"}`},
		{"PATCH", "m", `{"offsets":[null]}`, 500, ""},
		{"PATCH", "m", `{"offsets":{}}`, 500, ""},
		{"PATCH", "m", `{"offsets":[{"partition":7}]}`, 500, ""},
		{"PATCH", "m", `{"offsets":[{"partition":{},"position":7}]}`, 500, ""},
		{"PATCH", "m", `{"more":1}`, 500, ""},
		{"PATCH", "m", `null`, 500, ""},
		{"PATCH", "nope", at(orders, `{"offset":41}`), 404, `{"error_code":404,"message":"Connector nope not found"}`},
		{"DELETE", "nope", "", 404, `{"error_code":404,"message":"Connector nope not found"}`},
		{"DELETE", "m", "", 200, `{"message":"The offsets for this connector have been reset successfully"}`},
		{"DELETE", "m", "", 200, `{"message":"The offsets for this connector have been reset successfully"}`},
		{"GET", "m", "", 200, `{"offsets":[]}`},
	} {
		n := c.nodes[i%3]
		var body *string
		headers := map[string]string{}
		if row.body != "" {
			body, headers["Content-Type"] = &row.body, jsonType
		}
		got := ask(t, n.url, row.method, "/connectors/"+row.path+"/offsets", headers, body)
		if got.status != row.status || row.answer != "" && got.body != row.answer {
			t.Errorf("%s %s %s: %d %s, want %d %s", row.method, row.path, row.body, got.status, got.body, row.status, row.answer)
		}
	}
	c.nodes[0].client.Resume(t.Context(), "m") //nolint:errcheck // seen below
	_, err := c.nodes[1].client.AlterOffsets(t.Context(), "m", []worker.OffsetEntry{{Partition: json.RawMessage(orders), Offset: json.RawMessage(`{"offset":1}`)}})
	if !HasStatus(err, http.StatusBadRequest) {
		t.Errorf("of a connector that runs: %v", err)
	}
}
