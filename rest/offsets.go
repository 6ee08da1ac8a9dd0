package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"barnabas/worker"
)

// connectorOffsets is Connect's ConnectorOffsets.
type connectorOffsets struct {
	Offsets []worker.OffsetEntry `json:"offsets"`
}

// message is Connect's Message.
type message struct {
	Message string `json:"message"`
}

func (s *Server) getOffsets(ctx context.Context, r *request) (answer, error) {
	offsets, err := s.w.Offsets(ctx, r.param("connector"))
	if err != nil {
		return answer{}, err
	}
	return ok(connectorOffsets{orEmpty(offsets)})
}

// alterOffsets sets offsets of a stopped connector (KIP-875). That nothing is asked for is said before anything about the connector.
func (s *Server) alterOffsets(ctx context.Context, r *request) (answer, error) {
	offsets, err := readOffsets(r.body)
	if err != nil {
		return answer{}, err
	}
	done, err := s.w.AlterOffsets(ctx, r.param("connector"), offsets)
	if err != nil {
		return answer{}, err
	}
	return ok(message{done})
}

// resetOffsets deletes the offsets of a stopped connector (KIP-875).
func (s *Server) resetOffsets(ctx context.Context, r *request) (answer, error) {
	done, err := s.w.ResetOffsets(ctx, r.param("connector"))
	if err != nil {
		return answer{}, err
	}
	return ok(message{done})
}

// readOffsets reads the body of PATCH …/offsets.
func readOffsets(body []byte) ([]worker.OffsetEntry, error) {
	fields, err := readObject(body)
	if err != nil {
		return nil, err
	}
	if fields == nil {
		return nil, fail(http.StatusInternalServerError, "The request has no body.")
	}
	if err := onlyFields(fields, "offsets"); err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if raw, written := fields["offsets"]; written {
		if err := readJSON(raw, &list, "an object with a list of offsets"); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, fail(http.StatusBadRequest, "Partitions / offsets need to be provided for an alter offsets request")
	}
	offsets := make([]worker.OffsetEntry, 0, len(list))
	for _, raw := range list {
		var entry map[string]json.RawMessage
		if err := readJSON(raw, &entry, "a list of objects"); err != nil {
			return nil, err
		}
		if entry == nil {
			return nil, fail(http.StatusInternalServerError, "An element of the list of offsets is null.")
		}
		if err := onlyFields(entry, "partition", "offset"); err != nil {
			return nil, err
		}
		e := worker.OffsetEntry{Partition: orNull(entry["partition"]), Offset: orNull(entry["offset"])}
		for _, part := range []json.RawMessage{e.Partition, e.Offset} {
			if part[0] != '{' && part[0] != 'n' {
				return nil, fail(http.StatusInternalServerError, "A partition or an offset is no object.")
			}
		}
		offsets = append(offsets, e)
	}
	return offsets, nil
}

// orNull is what was written, without space around it, or null.
func orNull(raw json.RawMessage) json.RawMessage {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}
