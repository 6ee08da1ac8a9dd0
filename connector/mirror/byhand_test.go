package mirror

import (
	"testing"

	"barnabas/connector"
)

// The words are those of Kafka Connect 4.3.1 (MirrorUtils).
func TestOffsetsAreJudgedAsKafkaDoes(t *testing.T) {
	t.Parallel()
	type check func([]connector.OffsetChange) error
	for _, row := range []struct {
		name              string
		check             check
		partition, offset string
		want              string
	}{
		{"source", checkSourceOffsets, `{"cluster":"A","partition":0,"topic":"orders"}`, `{"offset":41}`, ""},
		{"source, more", checkSourceOffsets, `{"cluster":"Z","partition":0,"topic":"orders","x":1}`, `{"offset":41,"y":"z"}`, ""},
		{"deletion of anything", checkSourceOffsets, `{"x":1}`, `null`, ""},
		{"no partition", checkSourceOffsets, `null`, `{"offset":1}`, "Source partitions may not be null"},
		{
			"negative", checkSourceOffsets, `{"cluster":"A","partition":0,"topic":"orders"}`, `{"offset":-1}`,
			"Source offset {offset=-1} for source partition {cluster=A, partition=0, topic=orders} has an invalid value -1 for the 'offset' key, which cannot be negative",
		},
		{
			"text", checkSourceOffsets, `{"cluster":"A","partition":0,"topic":"orders"}`, `{"offset":"x"}`,
			"Source offset {offset=x} for source partition {cluster=A, partition=0, topic=orders} has an invalid value x for the 'offset' key, which must be an integer",
		},
		{
			"no offset", checkSourceOffsets, `{"cluster":"A","partition":0,"topic":"orders"}`, `{}`,
			"Source offset {} for source partition {cluster=A, partition=0, topic=orders} is missing the 'offset' key, which is required",
		},
		{
			"no partition's number", checkSourceOffsets, `{"cluster":"A","topic":"orders"}`, `{"offset":1}`,
			"Source partition {cluster=A, topic=orders} is missing the 'partition' key, which is required",
		},
		{
			"partition is text", checkSourceOffsets, `{"cluster":"A","partition":"0","topic":"orders"}`, `{"offset":1}`,
			"Source partition {cluster=A, partition=0, topic=orders} has an invalid value 0 for the 'partition' key, which must be an integer",
		},
		{
			"partition is a long", checkSourceOffsets, `{"cluster":"A","partition":2147483648,"topic":"orders"}`, `{"offset":1}`,
			"Source partition {cluster=A, partition=2147483648, topic=orders} has an invalid value 2147483648 for the 'partition' key, which must be an integer",
		},
		{
			"partition below zero", checkSourceOffsets, `{"cluster":"A","partition":-1,"topic":"orders"}`, `{"offset":1}`,
			"Source partition {cluster=A, partition=-1, topic=orders} has an invalid value -1 for the 'partition' key, which cannot be negative",
		},
		{
			"cluster is a number", checkSourceOffsets, `{"cluster":1,"partition":0,"topic":"orders"}`, `{"offset":1}`,
			"Source partition {cluster=1, partition=0, topic=orders} has an invalid value 1 for the 'cluster' key, which must be a string",
		},
		{"checkpoint", checkCheckpointOffsets, `{"group":"g","partition":0,"topic":"orders"}`, `{"offset":0}`, ""},
		{
			"checkpoint, not zero", checkCheckpointOffsets, `{"group":"g","partition":0,"topic":"orders"}`, `{"offset":1}`,
			"Source offset {offset=1} for source partition {partition=0, topic=orders, group=g} has an invalid value 1 for the 'offset' key; the only accepted value is 0",
		},
		{"heartbeat", checkHeartbeatOffsets, `{"sourceClusterAlias":"A","targetClusterAlias":"B"}`, `{"offset":0}`, ""},
		{
			"heartbeat, no target", checkHeartbeatOffsets, `{"sourceClusterAlias":"A"}`, `{"offset":0}`,
			"Source partition {sourceClusterAlias=A} is missing the 'targetClusterAlias' key, which is required",
		},
	} {
		var c connector.OffsetChange
		var errs [2]error
		c.Partition, errs[0] = connector.ParseFields([]byte(row.partition))
		c.Offset, errs[1] = connector.ParseFields([]byte(row.offset))
		if errs != [2]error{} {
			t.Fatal(row.name, errs)
		}
		got := ""
		if err := row.check([]connector.OffsetChange{c}); err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s:\n %s, want\n %s", row.name, got, row.want)
		}
	}
}

func TestOwnRecordsAreToldFromOffsets(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		string(aclPartKey("A", 3)): true, string(deletionKey("A")): true, string(offsetKey("A", partition{"acls", 0})): false, `{"cluster":"A"}`: false,
	} {
		if f, err := connector.ParseFields([]byte(raw)); err != nil || ownOffset(f) != want {
			t.Errorf("%s: %v %v, want %v", raw, !want, err, want)
		}
	}
}
