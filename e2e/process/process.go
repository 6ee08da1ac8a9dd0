// Package process runs the programs of an end-to-end test: brokers, Kafka
// Connect, Barnabas. A process writes its output to a file, may be killed,
// frozen and thawed, and never outlives the test binary.
//
// Easy to get wrong: the kernel ends a child when the thread that started it
// ends, not the process, so all children are started by one thread that lives
// as long as the binary.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	// Name is what errors call the process.
	Name string
	Path string
	Args []string
	// Env is the whole environment; nil inherits this process's.
	Env []string
	// Dir is the working directory; empty is the current one.
	Dir string
	// Log is the file that output and errors are appended to.
	Log string
}

// Process is a program under way, or one that has ended.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error // valid once done is closed
}

// starter is the one thread that starts children.
var starter = sync.OnceValue(func() chan<- func() {
	orders := make(chan func())
	go func() {
		runtime.LockOSThread()
		for order := range orders {
			order()
		}
	}()
	return orders
})

// Start runs a program. The caller ends it with Stop or Kill; when this
// process dies, so does the program.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir = spec.Env, spec.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", spec.Name, err), log.Close())
	}
	p := &Process{spec: spec, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		_ = log.Close()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how an ended process ended: nil for status 0.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Running says whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process at once (SIGKILL) and waits until it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end (SIGTERM) and returns once it has. One that
// takes longer than patience is killed, which is an error.
func (p *Process) Stop(patience time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("stop %s: still there after %s, killed\n%s", p.spec.Name, patience, p.Tail(20))
	}
}

// Freeze keeps the process from running (SIGSTOP): its connections stay open
// and silent. It returns once the kernel says that the process has stopped.
func (p *Process) Freeze(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze %s: %w", p.spec.Name, err)
	}
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		if err != nil {
			return fmt.Errorf("freeze %s: %w", p.spec.Name, err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if strings.HasPrefix(rest, "T") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("freeze %s: %w", p.spec.Name, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// Thaw lets a frozen process run again (SIGCONT).
func (p *Process) Thaw() error {
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("thaw %s: %w", p.spec.Name, err)
	}
	return nil
}

// LogFile is where the output goes.
func (p *Process) LogFile() string { return p.spec.Log }

// Tail returns the last lines of the output, for an error or a failed test.
func (p *Process) Tail(lines int) string {
	text, err := os.ReadFile(p.spec.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
