package filestream

import (
	"errors"

	"barnabas/connector"
)

// Fields of the offsets of a file.
const (
	fieldFile     = "filename"
	fieldPosition = "position"
)

// checkOffsets judges offsets as FileStreamSourceConnector.alterOffsets does, in its words. Every deletion passes.
func checkOffsets(changes []connector.OffsetChange) error {
	find := func(fields connector.Fields, name string) (any, bool) {
		for _, f := range fields {
			if f.Name == name {
				return f.Value, true
			}
		}
		return nil, false
	}
	for _, c := range changes {
		if c.Offset == nil {
			continue
		}
		position, there := find(c.Offset, fieldPosition)
		n, whole := position.(int64)
		_, named := find(c.Partition, fieldFile)
		switch {
		case !there:
			return errors.New("Offset objects should either be null or contain the key '" + fieldPosition + "'")
		case !whole:
			return errors.New("The value for the '" + fieldPosition + "' key in the offset is expected to be a Long value")
		case n < 0:
			return errors.New("The value for the '" + fieldPosition + "' key in the offset should be a non-negative value")
		case c.Partition == nil:
			return errors.New("Partition objects cannot be null")
		case !named:
			return errors.New("Partition objects should contain the key '" + fieldFile + "'")
		}
	}
	return nil
}
