package filestream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds a line: Kafka's grows its buffer without end, and no broker takes such a record.
const maxLine = 64 << 20

// errLine is of a line that is longer.
var errLine = fmt.Errorf("a line is longer than %d bytes", maxLine)

// lines splits what is read into lines as FileStreamSourceTask does: at \n, \r\n and \r. What has no end yet stays.
type lines struct {
	in  io.Reader
	buf []byte
	at  int // where the next line begins in buf
	// seen is how far buf has been looked through for an end.
	seen int
	// position is where the next line begins in the file, in bytes. Kafka's counts UTF-16 units, and after a restart
	// goes on at another place if there were others than ASCII.
	position int64
}

// next returns the next line without its end, or io.EOF if there is none for now. The line is valid until the next call.
func (l *lines) next() ([]byte, error) {
	for {
		if line, ok := l.cut(); ok {
			return line, nil
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
}

// cut takes a line out of the buffer.
func (l *lines) cut() ([]byte, bool) {
	i := bytes.IndexAny(l.buf[l.seen:], "\r\n")
	if i < 0 {
		l.seen = len(l.buf)
		return nil, false
	}
	end := l.seen + i
	behind := end + 1
	if l.buf[end] == '\r' {
		if behind == len(l.buf) { // perhaps \n comes after it
			l.seen = end
			return nil, false
		}
		if l.buf[behind] == '\n' {
			behind++
		}
	}
	line := l.buf[l.at:end]
	l.position += int64(behind - l.at)
	l.at, l.seen = behind, behind
	return line, true
}

// fill reads more.
func (l *lines) fill() error {
	const chunk = 64 << 10
	if l.at > 0 {
		n := copy(l.buf, l.buf[l.at:])
		l.buf, l.seen, l.at = l.buf[:n], l.seen-l.at, 0
	}
	if len(l.buf) > maxLine {
		return errLine
	}
	if cap(l.buf)-len(l.buf) < chunk {
		l.buf = append(make([]byte, 0, 2*cap(l.buf)+chunk), l.buf...)
	}
	n, err := l.in.Read(l.buf[len(l.buf):cap(l.buf)])
	l.buf = l.buf[:len(l.buf)+n]
	switch {
	case n > 0:
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return io.EOF
	}
	return err
}
