//go:build !unix

package filestream

import "os"

// stdin reads standard input. A task that waits in it ends with the next line only.
type stdin struct{}

// Read implements io.Reader.
func (stdin) Read(b []byte) (int, error) { return os.Stdin.Read(b) }
