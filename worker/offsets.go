package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"barnabas/clientconfig"
	"barnabas/connector"
	"barnabas/worker/herder"
	"barnabas/worker/store"
)

// Offsets returns the offsets of a connector: those of a source as they stand in the topic, of a sink those of its group.
func (w *Worker) Offsets(ctx context.Context, name string) ([]OffsetEntry, error) {
	var written map[string]string
	if err := w.read(ctx, func(m *herder.Machine) error {
		var ok bool
		if written, _, ok = m.Connector(name); !ok {
			return notFound("Connector %s not found", name)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if w.typeOf(written) == connector.Sink {
		return w.sinkOffsets(ctx, name, written)
	}
	plugin, _ := pluginFor(written["connector.class"]) // of an unknown one all are shown
	return w.savedOffsets(ctx, plugin, name)
}

func (w *Worker) savedOffsets(ctx context.Context, plugin connector.Plugin, name string) ([]OffsetEntry, error) {
	if err := w.topics.offset.ReadToEnd(ctx); err != nil {
		return nil, &Error{ErrUnavailable, "The offset topic cannot be read to its end: " + err.Error()}
	}
	entries := []OffsetEntry{}
	for _, o := range w.topics.offsets.All(name) {
		if plugin.OwnOffset != nil {
			if fields, err := connector.ParseFields(o.Partition); err == nil && plugin.OwnOffset(fields) {
				continue
			}
		}
		entries = append(entries, OffsetEntry{Partition: o.Partition, Offset: o.Offset})
	}
	return entries, nil
}

// AlterOffsets sets source offsets of a stopped connector (KIP-875); an Offset of null deletes one. The tasks go on from there
// when the connector is resumed. The answer is Connect's message.
func (w *Worker) AlterOffsets(ctx context.Context, name string, entries []OffsetEntry) (string, error) {
	plugin, written, err := w.stopped(ctx, name)
	if err != nil {
		return "", err
	}
	if plugin.Type == connector.Sink {
		return w.setSinkOffsets(ctx, name, written, entries)
	}
	changes := make([]connector.OffsetChange, 0, len(entries))
	for _, e := range entries {
		var c connector.OffsetChange
		if c.Partition, err = connector.ParseFields(e.Partition); err == nil {
			c.Offset, err = connector.ParseFields(e.Offset)
		}
		if err != nil {
			return "", &Error{ErrInternal, err.Error()}
		}
		changes = append(changes, c)
	}
	offsets := make([]connector.Offset, len(changes))
	for i, c := range changes {
		offsets[i].Partition = c.Partition.JSON()
		if c.Offset != nil {
			offsets[i].Offset = c.Offset.JSON()
		}
	}
	return w.setOffsets(ctx, name, plugin, written, changes, offsets, "altered")
}

// ResetOffsets deletes all source offsets of a stopped connector (KIP-875): it begins anew.
func (w *Worker) ResetOffsets(ctx context.Context, name string) (string, error) {
	plugin, written, err := w.stopped(ctx, name)
	if err != nil {
		return "", err
	}
	if plugin.Type == connector.Sink {
		return w.resetSinkOffsets(ctx, name, written)
	}
	saved, err := w.savedOffsets(ctx, plugin, name)
	if err != nil {
		return "", err
	}
	var changes []connector.OffsetChange
	var offsets []connector.Offset
	for _, e := range saved {
		offsets = append(offsets, connector.Offset{Partition: e.Partition})
		// What cannot be read goes as well: tombstones are the way to clean up.
		if fields, err := connector.ParseFields(e.Partition); err == nil {
			changes = append(changes, connector.OffsetChange{Partition: fields})
		}
	}
	return w.setOffsets(ctx, name, plugin, written, changes, offsets, "reset")
}

// settleTick is how often stopped looks again while a worker still stops tasks.
const settleTick = 50 * time.Millisecond

// stopped returns a connector that is stopped, once its tasks are known to have ended. Kafka Connect does not wait for
// that, and a task that saves its last offsets then takes back what was set.
func (w *Worker) stopped(ctx context.Context, name string) (plugin connector.Plugin, written map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	for {
		if err := w.leads(ctx); err != nil {
			return plugin, nil, err
		}
		settled := false
		err := w.read(ctx, func(m *herder.Machine) error {
			var ok bool
			if written, _, ok = m.Connector(name); !ok {
				return notFound("Connector %s not found", name)
			}
			if m.Target(name) != herder.Stopped || len(m.Tasks(name)) != 0 {
				return &Error{ErrInvalid, fmt.Sprintf("Connectors must be in the STOPPED state before their offsets can be modified. This can be done "+
					"for the specified connector by issuing a 'PUT' request to the '/connectors/%s/stop' endpoint", name)}
			}
			settled = m.Settled(name)
			return nil
		})
		if err != nil {
			return plugin, nil, err
		}
		if settled {
			plugin, err = pluginFor(written["connector.class"])
			if err != nil {
				err = &Error{ErrInternal, err.Error()}
			}
			return plugin, written, err
		}
		select {
		case <-ctx.Done():
			return plugin, nil, &Error{ErrUnavailable, fmt.Sprintf("Tasks of connector %s have not stopped yet; try again.", name)}
		case <-time.After(settleTick):
		}
	}
}

// setOffsets judges changes and carries them out: in what the tasks keep besides, then in the offset topic.
func (w *Worker) setOffsets(ctx context.Context, name string, plugin connector.Plugin, written map[string]string,
	changes []connector.OffsetChange, offsets []connector.Offset, done string,
) (string, error) {
	if plugin.CheckOffsets != nil {
		if err := plugin.CheckOffsets(changes); err != nil {
			return "", &Error{ErrInternal, err.Error()}
		}
	}
	if err := w.offsetsSet(ctx, name, plugin, written, changes); err != nil {
		return "", &Error{ErrInternal, fmt.Sprintf("Failed to modify offsets for source connector %s: %v", name, err)}
	}
	if err := store.SaveOffsets(ctx, w.topics.offsetAppender, name, offsets); err != nil {
		if ctx.Err() != nil {
			return "", &Error{ErrUnavailable, fmt.Sprintf("Timed out while attempting to modify offsets for source connector %s", name)}
		}
		return "", &Error{ErrInternal, fmt.Sprintf("Failed to modify offsets for source connector %s: %v", name, err)}
	}
	if plugin.CheckOffsets == nil {
		return fmt.Sprintf("The Connect framework-managed offsets for this connector have been %s successfully. However, if this connector manages "+
			"offsets externally, they will need to be manually %s in the system that the connector uses.", done, done), nil
	}
	return fmt.Sprintf("The offsets for this connector have been %s successfully", done), nil
}

// offsetsSet carries changes to where a connector's tasks keep their progress besides, under the connector's own identity.
func (w *Worker) offsetsSet(ctx context.Context, name string, plugin connector.Plugin, written map[string]string, changes []connector.OffsetChange) error {
	if plugin.OffsetsSet == nil || len(changes) == 0 {
		return nil
	}
	settings, _, err := w.resolve(ctx, written)
	if err != nil {
		return err
	}
	clients, closeAll := clientconfig.Clients(w.o.File.Settings, settings, w.o.Dialer)
	defer closeAll()
	err = plugin.OffsetsSet(ctx, clientconfig.Owner(w.o.File.GroupID, settings, name), settings, clients, changes)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("its target does not answer")
	}
	return err
}
