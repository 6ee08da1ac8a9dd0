package filestream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"barnabas/config"
	"barnabas/connector"
	"barnabas/connector/converter"
	"barnabas/connector/reporter"
	"barnabas/connector/tolerance"
	"barnabas/connector/txn"
)

// sourceTask writes the lines of a file to a topic as Kafka's FileStreamSourceTask does.
type sourceTask struct{}

// Pauses of the task.
const (
	// idle is how long it waits for more lines, or for the file to appear, where Kafka's waits 1 s.
	idle = 200 * time.Millisecond
	// lastTimeout bounds the flush of a task that ends.
	lastTimeout = 10 * time.Second
	// warnEvery is how often the log tells of a file that is not there.
	warnEvery = time.Minute
)

// Run reads until ctx ends.
func (sourceTask) Run(ctx context.Context, tc connector.TaskContext) error {
	values, err := parse(sourceKeys(), tc.Settings)
	if err != nil {
		return err
	}
	r := &reading{
		TaskContext: tc, name: values.String(keyFile), topic: values.String(keyTopic), partition: partition(values),
		batch: max(1, values.Int(keyBatch)),
	}
	if err := r.open(ctx, values); err != nil {
		return ignoreEnd(ctx, err)
	}
	defer r.close()
	tc.Started()
	err = r.loop(ctx)
	if err == nil || ctx.Err() != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
		defer cancel()
		err = r.save(last)
		r.reports.Close(last)
	}
	return err
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// reading is one run of a task.
type reading struct {
	connector.TaskContext
	name, topic string // name is empty: standard input
	partition   []byte
	batch       int
	key, value  *converter.Converter
	errs        *tolerance.Handler
	reports     *reporter.Reporter
	out         *writer

	file   *os.File
	lines  *lines
	saved  []byte // the offset that stands
	note   string // what the task waits for
	since  time.Time
	warned time.Time
}

// open makes everything but the file, which may come later.
func (r *reading) open(ctx context.Context, values config.Values) (err error) {
	if r.key, err = converter.New(converter.Key, r.Converters, r.Settings); err != nil {
		return err
	}
	if r.value, err = converter.New(converter.Value, r.Converters, r.Settings); err != nil {
		return err
	}
	if _, err = converter.New(converter.Header, r.Converters, r.Settings); err != nil {
		return err
	}
	r.errs = tolerance.New(values, r.TaskContext, nil)
	if r.reports, err = reporter.Open(ctx, r.TaskContext); err != nil {
		return err
	}
	if r.Delivery != connector.Transactional {
		// Nothing shuts a former owner out of a topic that others may write to as well.
		select {
		case <-r.Clear:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := createTopic(ctx, r.TaskContext, r.topic); err != nil {
		return err
	}
	r.out, err = openWriter(ctx, r)
	return err
}

func (r *reading) close() {
	if r.file != nil {
		r.file.Close() //nolint:errcheck // it was only read
	}
}

// loop reads and writes, and saves offsets at their interval.
func (r *reading) loop(ctx context.Context) error {
	next := time.Now().Add(r.interval())
	for ctx.Err() == nil {
		n, err := r.poll(ctx)
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		if err := r.out.failure(); err != nil {
			return err
		}
		if now := time.Now(); !now.Before(next) || n > 0 && r.interval() == 0 {
			if err := r.save(ctx); err != nil {
				if r.Delivery == connector.Transactional {
					return ignoreEnd(ctx, err)
				}
				r.warn(ctx, "offsets of the file are not saved", err)
			}
			next = now.Add(r.interval())
		}
		r.tell()
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(idle):
		}
	}
	return nil
}

// interval is how often offsets are saved, or transactions end.
func (r *reading) interval() time.Duration {
	if r.Delivery == connector.Transactional {
		return r.Boundary.Interval
	}
	return r.Offsets.Interval
}

func (r *reading) warn(ctx context.Context, what string, err error) {
	if now := time.Now(); now.Sub(r.warned) >= warnEvery {
		r.warned = now
		r.Log.WarnContext(ctx, what, "file", r.name, "err", err)
	}
}

// poll writes what can be read now, one batch at most.
func (r *reading) poll(ctx context.Context) (n int, err error) {
	if r.lines == nil {
		if err := r.begin(ctx); err != nil || r.lines == nil {
			return 0, err
		}
	}
	for n < r.batch && ctx.Err() == nil {
		line, err := r.lines.next()
		if errors.Is(err, io.EOF) {
			r.ended()
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read %s: %w", r.shown(), err)
		}
		r.note = ""
		n++
		if err := r.write(ctx, converter.DecodeUTF8(line)); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (r *reading) shown() string {
	if r.name == "" {
		return "standard input"
	}
	return r.name
}

// begin opens the file where the saved offset says. A file that is not there is waited for.
func (r *reading) begin(ctx context.Context) error {
	if r.name == "" {
		r.lines = &lines{in: stdin{}}
		return nil
	}
	file, err := os.Open(r.name)
	if errors.Is(err, fs.ErrNotExist) {
		r.waiting("the file " + r.name + " does not exist yet")
		r.warn(ctx, "Couldn't find file for FileStreamSourceTask, sleeping to wait for it to be created", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", r.name, err)
	}
	if info, err := file.Stat(); err == nil && info.IsDir() {
		file.Close() //nolint:errcheck // nothing was done with it
		return fmt.Errorf("open %s: it is a directory", r.name)
	}
	found, err := r.Offsets.Load(ctx, [][]byte{r.partition})
	if err == nil {
		r.saved = found[0]
		var position int64
		if position, err = parsePosition(found[0]); err == nil && position > 0 {
			_, err = file.Seek(position, io.SeekStart) // also behind the end: there it waits until the file has grown
		}
		r.lines = &lines{in: file, position: position}
	}
	if err != nil {
		file.Close() //nolint:errcheck // it was only read
		r.lines = nil
		return fmt.Errorf("begin with %s: %w", r.name, err)
	}
	r.file = file
	return nil
}

// parsePosition reads the value of an offset; nil is 0.
func parsePosition(offset []byte) (int64, error) {
	if offset == nil {
		return 0, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(offset, &fields); err != nil {
		return 0, fmt.Errorf("offset %.100q: %w", offset, err)
	}
	text := fields["position"]
	if text == nil || string(text) == "null" {
		return 0, nil
	}
	position, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, errors.New("Offset position is the incorrect type") // Kafka's words
	}
	return max(0, position), nil
}

// ended looks at why there is nothing more to read.
func (r *reading) ended() {
	if r.file == nil {
		return
	}
	here, err := r.file.Seek(0, io.SeekCurrent)
	info, statErr := r.file.Stat()
	if err != nil || statErr != nil || !info.Mode().IsRegular() || info.Size() >= here {
		r.note = ""
		return
	}
	r.waiting(fmt.Sprintf("the file %s was cut to %d bytes and has been read up to byte %d: nothing is read until it has grown beyond that. "+
		"To read it from its beginning, stop the connector and delete its offsets.", r.name, info.Size(), here))
}

func (r *reading) waiting(note string) {
	if r.note != note {
		r.note, r.since = note, time.Now()
	}
}

// write converts a line and hands it to the producer.
func (r *reading) write(ctx context.Context, line string) error {
	position := r.lines.position
	record := &kgo.Record{Topic: r.topic, Timestamp: time.Now()}
	var failure *tolerance.Failure
	for _, part := range []struct {
		stage tolerance.Stage
		by    *converter.Converter
		text  *string
		to    *[]byte
	}{{tolerance.KeyConverter, r.key, nil, &record.Key}, {tolerance.ValueConverter, r.value, &line, &record.Value}} {
		b, err := part.by.Encode(part.text)
		if err != nil {
			failure = &tolerance.Failure{Stage: part.stage, Class: part.by.Class, Exception: converter.DataException, Message: err.Error(), Err: err, Where: r.where(position)}
			break
		}
		*part.to = b
	}
	if failure != nil {
		r.reports.Failed(ctx, record, failure.Exception, failure.Err)
		if err := r.errs.Failed(ctx, *failure); err != nil {
			return err
		}
		r.out.skip(position)
		return nil
	}
	return r.out.send(ctx, record, position)
}

func (r *reading) where(position int64) string {
	return fmt.Sprintf("SourceRecord{sourcePartition=%s, sourceOffset=%s}", r.partition, r.offset(position))
}

// offset is the source offset of a position. That of standard input is null.
func (r *reading) offset(position int64) []byte {
	if r.name == "" {
		return []byte(`{"position":null}`)
	}
	return []byte(fmt.Sprintf(`{"position":%d}`, position))
}

// save waits until everything sent stands in Kafka, and saves the position behind it.
func (r *reading) save(ctx context.Context) error {
	position, some, err := r.out.flush(ctx)
	if err != nil {
		return err
	}
	if !some {
		return nil
	}
	offset := r.offset(position)
	if !bytes.Equal(offset, r.saved) && r.Delivery != connector.Transactional {
		if err := r.Offsets.Save(ctx, []connector.Offset{{Partition: r.partition, Offset: offset}}); err != nil {
			return fmt.Errorf("save offset %s: %w", offset, err)
		}
	}
	r.saved = offset
	return nil
}

// tell reports progress.
func (r *reading) tell() {
	p := connector.Progress{Delivery: r.Delivery, Errors: r.errs.Counts()}
	if p.Delivery == connector.Fenced {
		p.Delivery = connector.Plain
	}
	if r.note != "" {
		p.Notes = []connector.Note{{About: "file", Text: r.note, Since: r.since}}
	}
	r.Report(p)
}

// writer is the producer of a task.
type writer struct {
	r      *reading
	client *kgo.Client
	open   bool // a transaction is
	// position is behind the last line that was sent or left out; some says that there is one since the last flush.
	position int64
	some     bool

	mu  sync.Mutex
	err error // why the task fails
}

// openWriter makes the producer. In transactional mode it shuts former owners out.
func openWriter(ctx context.Context, r *reading) (*writer, error) {
	w := &writer{r: r}
	if r.Delivery == connector.Transactional && !slices.Contains(r.Internal.Topics, r.OffsetsTopic) {
		return nil, errOwnTopic
	}
	opts := []kgo.Opt{kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1)} // Connect's waits for a topic, too
	if r.Delivery == connector.Transactional {
		opts = append(opts, kgo.TransactionalID(r.TransactionalID))
	}
	var err error
	if w.client, err = r.Clients.Open(ctx, connector.RecordProducer, opts...); err != nil || r.Delivery != connector.Transactional {
		return w, err
	}
	if _, _, err := w.client.ProducerID(ctx); err != nil {
		return nil, fmt.Errorf("take transactional id %s as %s: %w", r.TransactionalID, r.Clients.Principal(connector.RecordProducer), err)
	}
	r.Fenced()
	return w, nil
}

// send hands a record to the producer, and waits if that has too many.
func (w *writer) send(ctx context.Context, record *kgo.Record, position int64) error {
	if w.r.Delivery == connector.Transactional && !w.open {
		if err := w.client.BeginTransaction(); err != nil {
			return fmt.Errorf("begin a transaction: %w", err)
		}
		w.open = true
	}
	w.skip(position)
	w.client.Produce(ctx, record, func(record *kgo.Record, err error) { w.done(record, position, err) })
	return nil
}

// skip notes that a line needs no sending any more.
func (w *writer) skip(position int64) { w.position, w.some = position, true }

// done hears what became of a record.
func (w *writer) done(record *kgo.Record, position int64, err error) {
	ctx := context.Background() // of reports, which wait for nothing
	if err == nil {
		w.r.Wrote(record.Topic)
		w.r.reports.Succeeded(ctx, record)
		return
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		w.fail(err)
		return
	}
	w.r.reports.Failed(ctx, record, "org.apache.kafka.common.errors."+exception(err), err)
	if w.r.Delivery == connector.Transactional {
		w.fail(fmt.Errorf("write to topic %s: %w", record.Topic, err))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	failure := tolerance.Failure{
		Stage: tolerance.KafkaProduce, Class: "org.apache.kafka.connect.runtime.WorkerSourceTask", Exception: exception(err),
		Message: err.Error(), Err: fmt.Errorf("write to topic %s: %w", record.Topic, err), Where: w.r.where(position),
	}
	if err := w.r.errs.Failed(ctx, failure); err != nil && w.err == nil {
		w.err = fmt.Errorf("Unrecoverable exception from producer send callback: %w", failure.Err) // Connect's words
	}
}

// exception is the name of Kafka's exception for an error of the producer.
func exception(err error) string {
	switch {
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return "RecordTooLargeException"
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return "TopicAuthorizationException"
	case errors.Is(err, kgo.ErrRecordTimeout):
		return "TimeoutException"
	}
	return "KafkaException"
}

func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// failure is why the task fails, if it does.
func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// flush waits for all records, and ends the transaction with their offset in it.
func (w *writer) flush(ctx context.Context) (position int64, some bool, err error) {
	if !w.some {
		return 0, false, nil
	}
	if w.open {
		// The offset is part of the transaction (KIP-618).
		w.client.Produce(ctx, &kgo.Record{
			Topic: w.r.OffsetsTopic, Key: offsetKey(w.r.Connector, w.r.partition), Value: w.r.offset(w.position),
		}, func(_ *kgo.Record, err error) {
			if err != nil {
				w.fail(fmt.Errorf("write the offset to %s: %w", w.r.OffsetsTopic, err))
			}
		})
	}
	if err := w.client.Flush(ctx); err != nil {
		return 0, false, fmt.Errorf("write to topic %s: %w", w.r.topic, err)
	}
	if err := w.failure(); err != nil {
		return 0, false, err
	}
	if w.open {
		if err := txn.End(ctx, w.client, kgo.TryCommit); err != nil {
			return 0, false, fmt.Errorf("commit a transaction: %w", err)
		}
		w.open = false
	}
	w.some = false
	return w.position, true, nil
}

// offsetKey is the key of a source offset in Connect's offset topic.
func offsetKey(name string, partition []byte) []byte {
	key := append([]byte{'['}, converter.Quote(name)...)
	return append(append(append(key, ','), partition...), ']')
}
