package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"

	"barnabas/e2e/kafka"
)

// profileTo is the variable of the environment with the file that a processor
// profile goes to. SIGUSR1 begins it and ends it.
const profileTo = "BENCH_PROFILE"

// overlay is compiled into the product for profiles, by an overlay of the
// compiler: the product as it is delivered has no such door.
//
//go:embed overlay.txt
var overlay []byte

// profiling builds the product so that it can give profiles.
func profiling(ctx context.Context, dir string) (string, error) {
	root, err := kafka.Root()
	if err != nil {
		return "", err
	}
	code, replace, binary := filepath.Join(dir, "overlay.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "barnabas")
	if err := os.WriteFile(code, overlay, 0o600); err != nil {
		return "", fmt.Errorf("build for profiles: %w", err)
	}
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "cmd", "barnabas", "bench_profile.go"): code}})
	if err != nil {
		return "", fmt.Errorf("build for profiles: %w", err)
	}
	if err := os.WriteFile(replace, text, 0o600); err != nil {
		return "", fmt.Errorf("build for profiles: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", replace, "-o", binary, "./cmd/barnabas")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build for profiles: %w\n%s", err, out)
	}
	return binary, nil
}

// profileOnSignal does in this program what the overlay does in the product. The
// function that it returns ends a profile that is under way.
func profileOnSignal() func() {
	path := os.Getenv(profileTo)
	if path == "" {
		return func() {}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		<-signals
		file, err := os.Create(path)
		if err != nil {
			return
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return
		}
		<-signals
		pprof.StopCPUProfile()
		_ = file.Close()
	}()
	return pprof.StopCPUProfile
}
