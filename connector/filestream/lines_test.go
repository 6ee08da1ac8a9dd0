package filestream

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// growing gives its parts one by one, with an end of file after each.
type growing struct {
	parts []string
	end   bool
}

func (g *growing) Read(b []byte) (int, error) {
	if g.end = !g.end; !g.end || len(g.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(b, g.parts[0])
	if g.parts[0] = g.parts[0][n:]; g.parts[0] == "" {
		g.parts = g.parts[1:]
	}
	return n, nil
}

func TestLinesEndAsInKafka(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70_000)
	for name, tt := range map[string]struct {
		parts    []string
		want     []string
		position int64
	}{
		"all ends":              {[]string{"a\nb\r\nc\rd\n"}, []string{"a", "b", "c", "d"}, 9},
		"no end":                {[]string{"a\nb"}, []string{"a"}, 2},
		"end comes later":       {[]string{"a\nb", "c\n"}, []string{"a", "bc"}, 5},
		"return at the end":     {[]string{"a\r"}, nil, 0},
		"newline comes later":   {[]string{"a\r", "\nb\n"}, []string{"a", "b"}, 5},
		"another comes later":   {[]string{"a\r", "b\n"}, []string{"a", "b"}, 4},
		"empty lines":           {[]string{"\n\n\r\r\n\n"}, []string{"", "", "", "", ""}, 6},
		"position is in bytes":  {[]string{"é€\n"}, []string{"é€"}, 6},
		"longer than a reading": {[]string{long + "\n" + long + "\nx"}, []string{long, long}, 140_002},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, oneByOne := range []bool{false, true} {
				g := &growing{parts: slices.Clone(tt.parts)}
				l := &lines{in: g}
				if oneByOne {
					l.in = iotest.OneByteReader(g)
				}
				var got []string
				for ends := 0; ends < 2; { // all has been read when nothing comes twice
					line, err := l.next()
					if errors.Is(err, io.EOF) {
						if len(g.parts) == 0 {
							ends++
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, string(line))
				}
				if !slices.Equal(got, tt.want) || l.position != tt.position {
					t.Errorf("lines %.80q up to %d, want %.80q up to %d", got, l.position, tt.want, tt.position)
				}
			}
		})
	}
}

func TestALineWithoutEndFails(t *testing.T) {
	t.Parallel()
	l := &lines{in: io.LimitReader(zeros{}, 2*maxLine)}
	if _, err := l.next(); !errors.Is(err, errLine) {
		t.Errorf("got %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
