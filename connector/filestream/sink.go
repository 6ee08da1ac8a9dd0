package filestream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"barnabas/connector"
	"barnabas/connector/converter"
	"barnabas/connector/sink"
)

// sinkTask appends values to a file as Kafka's FileStreamSinkTask does. Kafka's does not hear of a disk that is full,
// and commits all the same; this one fails.
type sinkTask struct{}

// Run writes until ctx ends.
func (sinkTask) Run(ctx context.Context, tc connector.TaskContext) error {
	values, err := parse(sinkKeys(), tc.Settings)
	if err != nil {
		return err
	}
	file := os.Stdout
	if name := values.String(keyFile); name != "" {
		file, err = os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666) //nolint:gosec // the umask decides, as for Kafka Connect
		if err != nil {
			return fmt.Errorf("Couldn't find or create file '%s' for FileStreamSinkTask: %w", name, err) // Connect's words
		}
		defer file.Close() //nolint:errcheck // flushed before
	}
	return sink.Run(ctx, tc, values, output(file))
}

// output writes lines to file: those of a batch at once, so that the lines of several tasks do not mix.
func output(file *os.File) sink.Output {
	var lines []byte
	return sink.Output{
		Put: func(records []sink.Record) error {
			lines = lines[:0]
			for _, r := range records {
				lines = append(append(lines, converter.Text(r.Value)...), '\n')
			}
			if _, err := file.Write(lines); err != nil {
				return fmt.Errorf("write to %s: %w", file.Name(), err)
			}
			return nil
		},
		Flush: func() error {
			// Pipes and terminals have nothing to be synchronized.
			if err := file.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
				return fmt.Errorf("flush %s: %w", file.Name(), err)
			}
			return nil
		},
	}
}
