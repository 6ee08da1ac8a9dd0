package kubernetes

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"barnabas/configprovider/remote"
)

const (
	// watchLasts is how long one request watches; then the next goes on where it was.
	watchLasts = 5 * time.Minute
	// watchGrace is how much longer the worker waits for the end of it.
	watchGrace = 15 * time.Second
	// The wait before a watch that broke off is begun again, the longest, and the longest where it is refused. Such a
	// refusal may pass: a server that starts refuses everybody until it has read its roles.
	firstAgain, lastAgain, deniedAgain = time.Second, 30 * time.Second, 5 * time.Minute
	// forgotten is after how long without a read an object is watched no longer.
	forgotten = 3 * watchedTTL
	// maxEvent bounds one event of a watch: an object has at most 1 MiB, in base64.
	maxEvent = 4 << 20
	logEvery = time.Minute
)

// Run watches what has been read until ctx ends.
func (p *provider) Run(ctx context.Context, log *slog.Logger, changed func(path string)) error {
	var under sync.WaitGroup
	defer under.Wait()
	watching := map[string]bool{}
	ended := make(chan string)
	for {
		p.mu.Lock()
		for written, at := range p.places {
			if !watching[written] {
				watching[written] = true
				under.Go(func() {
					p.follow(ctx, log, written, at, changed)
					select {
					case ended <- written:
					case <-ctx.Done():
					}
				})
			}
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
		case written := <-ended:
			delete(watching, written)
		}
	}
}

// follow watches one object until nobody reads it any more.
func (p *provider) follow(ctx context.Context, log *slog.Logger, written string, at *place, changed func(path string)) {
	again, told, missed := firstAgain, time.Time{}, false
	for ctx.Err() == nil {
		p.mu.Lock()
		version := at.version
		if time.Since(at.used) > forgotten {
			delete(p.places, written)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		err := p.watch(ctx, at, version, func() {
			if missed { // the server may not remember what happened meanwhile
				missed = false
				changed(written)
			}
		}, func() { changed(written) })
		p.mu.Lock()
		at.watched = false
		p.mu.Unlock()
		if err == nil {
			again = firstAgain
			continue
		}
		if ctx.Err() != nil {
			return
		}
		missed = true
		if time.Since(told) > max(logEvery, 2*again) {
			told = time.Now()
			log.Warn("an object of Kubernetes is not watched; it is read again from time to time", "object", at.String(), "err", err)
		}
		wait := again/2 + rand.N(again/2)
		if isRefusal(err) {
			again = min(2*again, deniedAgain)
		} else {
			again = min(2*again, lastAgain)
			changed(written) // what it missed may be gone from the server's memory
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// refusedError says that the object may not be watched.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("Kubernetes answers %d: the worker's role needs the verb watch", e.status)
}

func isRefusal(err error) bool {
	_, is := err.(*refusedError) //nolint:errorlint // never wrapped
	return is
}

// watch tells of changes of one object since a version, for a while. Each event ends what is known of it: it is read again.
// began is called when it has begun.
func (p *provider) watch(ctx context.Context, at *place, version string, began, changed func()) error {
	ctx, cancel := context.WithTimeout(ctx, watchLasts+watchGrace)
	defer cancel()
	r, err := p.request("api/v1/namespaces/" + at.namespace + "/" + at.resource)
	if err != nil {
		return err
	}
	r.Query = url.Values{
		"watch": {"true"}, "fieldSelector": {"metadata.name=" + at.name}, "resourceVersion": {version}, "allowWatchBookmarks": {"true"},
		"timeoutSeconds": {strconv.Itoa(int(watchLasts.Seconds()))},
	}
	resp, err := p.client.Stream(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusForbidden, http.StatusMethodNotAllowed:
		return &refusedError{resp.StatusCode}
	default:
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		return fmt.Errorf("Kubernetes answers %d%s", resp.StatusCode, remote.Said(body, r.Hidden...))
	}
	p.mu.Lock()
	at.watched = true
	p.mu.Unlock()
	began()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var event struct {
			Type   string `json:"type"`
			Object struct {
				Code     int    `json:"code"`
				Message  string `json:"message"`
				Metadata struct {
					ResourceVersion string `json:"resourceVersion"`
				} `json:"metadata"`
			} `json:"object"`
		}
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			return fmt.Errorf("what Kubernetes tells of %s is no event", at)
		}
		switch event.Type {
		case "BOOKMARK":
		case "ERROR": // 410: the version is too old. It is read anew, which gives another.
			return fmt.Errorf("the watch ends: %d %s", event.Object.Code, remote.Quote(event.Object.Message))
		default:
			changed()
		}
		if v := event.Object.Metadata.ResourceVersion; v != "" {
			p.mu.Lock()
			at.version = v
			p.mu.Unlock()
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the watch breaks off: %w", remote.Reason(err))
	}
	return nil
}
