// Command barnabas replicates topics between Kafka clusters: a worker of a
// cluster, the commands that talk to one, and a demonstration that needs
// nothing else.
//
// This package turns words into Options and Options into a Run; one file a
// command. It decides nothing about replication.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Set by the build: -ldflags "-X main.version=… -X main.commit=…".
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	if commit == "unknown" {
		commit = builtFrom()
	}
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel() // in good order
		<-signals
		os.Exit(exitFailed) // at once
	}()
	os.Exit(run(ctx, process{
		args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	}))
}

// builtFrom is the commit that the compiler has noted, if there was one.
func builtFrom() string {
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
