package leak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// nobody is a user who owns nothing here.
const nobody = 65534

// Process looks through what another user of the machine can read of a process:
// its line in a list of processes, its arguments, environment, and memory maps. Only root can become another
// user; for others it is an error.
func (s *Scanner) Process(ctx context.Context, where string, pid int) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can see how other users see a process")
	}
	of := filepath.Join("/proc", strconv.Itoa(pid))
	for _, command := range [][]string{
		{"ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)},
		{"ps", "eww", "-p", strconv.Itoa(pid)}, // e: with the environment, if one may see it
		{"cat", filepath.Join(of, "cmdline")},
		{"cat", filepath.Join(of, "environ")},
		{"cat", filepath.Join(of, "maps")},
		{"cat", filepath.Join(of, "comm")},
		{"cat", filepath.Join(of, "status")},
		{"ls", "-l", filepath.Join(of, "fd")},
	} {
		path, err := exec.LookPath(command[0])
		if err != nil {
			continue // no ps: the files say the same
		}
		cmd := exec.CommandContext(ctx, path, command[1:]...)
		cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "COLUMNS=10000"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		text, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) { // a refusal is what is hoped for
			return fmt.Errorf("see %s as another user: %w", where, err)
		}
		s.Scan("process", where+" by "+command[0], text)
	}
	return nil
}
