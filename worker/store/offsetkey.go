package store

import (
	"encoding/json"
	"fmt"
)

// OffsetKey is the key of a source offset: the connector's name and the source
// partition, whose JSON is taken as it is, because compaction compares bytes.
func OffsetKey(connector string, partition []byte) []byte {
	key := append(appendString([]byte{'['}, connector), ',')
	return append(append(key, partition...), ']')
}

// ParseOffsetKey parts a key of the offset topic into the connector's name and
// the JSON of the source partition, byte for byte (Connect's OffsetUtils.processPartitionKey).
func ParseOffsetKey(key []byte) (connector string, partition []byte, err error) {
	var parts []json.RawMessage
	if json.Unmarshal(key, &parts) != nil || len(parts) != 2 || len(parts[0]) == 0 || parts[0][0] != '"' {
		return "", nil, fmt.Errorf("offset record %.200q: the key is not [connector, partition]", key)
	}
	if err := json.Unmarshal(parts[0], &connector); err != nil {
		return "", nil, fmt.Errorf("offset record %.200q: the connector's name is not JSON", key)
	}
	if len(parts[1]) == 0 || parts[1][0] != '{' {
		return "", nil, fmt.Errorf("offset record %.200q: the partition is %s, not an object", key, kind(parts[1]))
	}
	return connector, parts[1], nil
}
