package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of processor time in /proc: USER_HZ is 100 on all of Linux's
// platforms.
const tick = time.Second / 100

// usage is processor time since the start of each process.
type usage struct {
	replicator, source, target time.Duration
	machine                    time.Duration // all processes of the machine
}

func (u usage) minus(before usage) usage {
	return usage{u.replicator - before.replicator, u.source - before.source, u.target - before.target, u.machine - before.machine}
}

// other is what the rest of the machine has used: this process, and whatever
// else makes the figures worse.
func (u usage) other() time.Duration { return max(0, u.machine-u.replicator-u.source-u.target) }

// meter reads the usage of the processes of a run.
type meter struct{ replicator, source, target int }

func (m meter) read() (usage, error) {
	var u usage
	for _, one := range []struct {
		pid  int
		into *time.Duration
	}{{m.replicator, &u.replicator}, {m.source, &u.source}, {m.target, &u.target}} {
		if one.pid == 0 {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", one.pid))
		if err != nil {
			return u, fmt.Errorf("processor time: %w", err)
		}
		if *one.into, err = processTime(stat); err != nil {
			return u, err
		}
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, fmt.Errorf("processor time: %w", err)
	}
	u.machine, err = machineTime(stat)
	return u, err
}

// processTime reads /proc/PID/stat: user and system time of all threads.
func processTime(stat []byte) (time.Duration, error) {
	// The name in parentheses may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("processor time: %q is no line of /proc/PID/stat", stat)
	}
	return ticks(fields[11], fields[12])
}

// machineTime reads the first line of /proc/stat: all but idle and waiting for
// disks, and nothing twice (a guest's time is in user time).
func machineTime(stat []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, fmt.Errorf("processor time: %q is no line of /proc/stat", line)
	}
	return ticks(fields[1], fields[2], fields[3], fields[6], fields[7], fields[8])
}

func ticks(fields ...[]byte) (time.Duration, error) {
	var sum time.Duration
	for _, f := range fields {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// ownCPU is the processor time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory reads a process's memory: the most it ever had and what it has, in bytes.
func memory(pid int) (peak, now int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("memory: %w", err)
	}
	peak, now = memoryIn(string(status))
	return peak, now, nil
}

// memoryIn reads /proc/PID/status.
func memoryIn(status string) (peak, now int64) {
	for line := range strings.Lines(status) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" {
			continue
		}
		n, _ := strconv.ParseInt(fields[0], 10, 64)
		switch name {
		case "VmHWM":
			peak = n << 10
		case "VmRSS":
			now = n << 10
		}
	}
	return peak, now
}

// machine describes what all of this runs on.
func machine() string {
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	memory := ""
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kB int64
		if _, err := fmt.Sscanf(string(info), "MemTotal: %d kB", &kB); err == nil {
			memory = fmt.Sprintf(", %.0f GiB", float64(kB)/(1<<20))
		}
	}
	kernel := ""
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(release))
	}
	return fmt.Sprintf("%d × %s%s%s", runtime.NumCPU(), model, memory, kernel)
}
