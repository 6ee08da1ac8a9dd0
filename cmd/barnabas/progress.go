package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress tells on standard error how far something is: with a bar on a
// terminal, with a line now and then otherwise.
type progress struct {
	w     io.Writer
	label string
	unit  string
	live  bool

	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	since time.Time
	told  time.Time
	n     int64
	of    int64
}

// progressPause is the time between two lines where there is no terminal.
const progressPause = 5 * time.Second

func (c *cli) progress(label, unit string) *progress {
	_, live := terminal(c.stderr)
	return &progress{w: c.stderr, label: label, unit: unit, live: live, since: time.Now(), told: time.Now()}
}

// set says that n of total are done. It may be called often, and from several
// goroutines.
func (p *progress) set(n, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n, p.of = n, total
	if !p.live {
		if now := time.Now(); now.Sub(p.told) >= progressPause {
			p.told = now
			fmt.Fprintf(p.w, "%s: %s of %s %s%s\n", p.label, counted(n), counted(total), p.unit, left(now.Sub(p.since), n, total))
		}
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(max(1, total), progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(p.label),
			progressbar.OptionSetItsString(p.unit), progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerHead: "█", SaucerPadding: "░", BarStart: "", BarEnd: ""}))
	}
	p.bar.ChangeMax64(max(1, total))
	_ = p.bar.Set64(min(n, max(0, total-1))) // the end is for done: a finished bar cannot move again
}

// left says how long the rest takes, if it goes on at the speed that it had so far.
func left(took time.Duration, n, total int64) string {
	if n <= 0 || total <= n {
		return ""
	}
	rest := time.Duration(float64(took) * float64(total-n) / float64(n))
	return ", about " + rest.Round(time.Second).String() + " left"
}

// done takes the bar away.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
