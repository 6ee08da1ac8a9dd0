package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Directory holds the roles of the files of a directory, and follows their changes.
type Directory struct {
	path string
	log  *slog.Logger
	now  atomic.Pointer[loaded]
	// Changed, unless nil, is told by Run how the roles in force have changed, role by role.
	Changed func(ctx context.Context, changes []Change)
}

// Change is how a role has changed: it was added, changed or removed.
type Change struct {
	What string
	Role Role // as it is, or was
}

func (c Change) String() string {
	text := fmt.Sprintf("role %s %s", c.Role.Name, c.What)
	if len(c.Role.Users) > 0 {
		text += ", users " + strings.Join(c.Role.Users, " ")
	}
	if len(c.Role.Groups) > 0 {
		text += ", groups " + strings.Join(c.Role.Groups, " ")
	}
	if !c.Role.Expires.IsZero() {
		text += fmt.Sprintf(", until %s because: %s", c.Role.Expires.UTC().Format(time.RFC3339), c.Role.Reason)
	}
	return text
}

// changes returns how roles differ from those before, by name.
func changes(before, after Roles) (all []Change) {
	for _, r := range after.roles {
		old, there := before.Lookup(r.Name)
		switch {
		case !there:
			all = append(all, Change{"added", r})
		case !reflect.DeepEqual(old, r):
			all = append(all, Change{"changed", r})
		}
	}
	for _, r := range before.roles {
		if _, stays := after.Lookup(r.Name); !stays {
			all = append(all, Change{"removed", r})
		}
	}
	return all
}

// loaded is what was read last.
type loaded struct {
	roles Roles
	print string // of the files
	err   error  // why a later state is not in force
}

// reloadInterval is how often the files are read again. They are few and small, and mounted volumes tell of no changes.
const reloadInterval = 2 * time.Second

// OpenDirectory reads the roles of a directory: one from each file that ends in .yaml, .yml or .json.
func OpenDirectory(path string, log *slog.Logger) (*Directory, error) {
	d := &Directory{path: path, log: log}
	files, err := d.read()
	if err != nil {
		return nil, err
	}
	roles, err := parseAll(files)
	if err != nil {
		return nil, err
	}
	d.now.Store(&loaded{roles: roles, print: print(files)})
	return d, nil
}

// Roles returns the roles in force.
func (d *Directory) Roles() Roles { return d.now.Load().roles }

// Err tells why the files, as they are now, are not in force; nil if they are.
func (d *Directory) Err() error { return d.now.Load().err }

var descBroken = prometheus.NewDesc("barnabas_roles_broken", "1 while a role file is wrong, and the roles before it are in force; with access.roles.dir.", nil, nil)

// Describe names the metric that Collect gives.
func (d *Directory) Describe(to chan<- *prometheus.Desc) { to <- descBroken }

// Collect tells whether the files are in force.
func (d *Directory) Collect(to chan<- prometheus.Metric) {
	broken := 0.0
	if d.Err() != nil {
		broken = 1
	}
	to <- prometheus.MustNewConstMetric(descBroken, prometheus.GaugeValue, broken)
}

// Run follows changes of the files until ctx ends. Files with a mistake leave the roles as they were, all of them: half
// of a change could grant what the other half denies.
func (d *Directory) Run(ctx context.Context) error {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			d.reload(ctx)
		}
	}
}

func (d *Directory) reload(ctx context.Context) {
	before := d.now.Load()
	files, err := d.read()
	if err == nil && print(files) == before.print {
		if before.err == nil {
			return
		}
		// They were put back, or are as broken as before.
	}
	next := &loaded{roles: before.roles, print: before.print, err: err}
	if err == nil {
		var roles Roles
		if roles, next.err = parseAll(files); next.err == nil {
			next.roles, next.print = roles, print(files)
		}
	}
	d.now.Store(next)
	switch {
	case next.err == nil && next.print != before.print:
		d.log.Info("roles read again", "directory", d.path, "roles", len(next.roles.roles))
		if changed := changes(before.roles, next.roles); d.Changed != nil && len(changed) > 0 {
			d.Changed(ctx, changed)
		}
	case next.err != nil && (before.err == nil || before.err.Error() != next.err.Error()):
		d.log.Error("roles are left as they were: a file is broken", "directory", d.path, "err", next.err)
	case next.err == nil && before.err != nil:
		d.log.Info("role files are whole again", "directory", d.path)
	}
}

type file struct{ name, text string }

// maxRoleBytes bounds a file of a role.
const maxRoleBytes = 1 << 20

func (d *Directory) read() ([]file, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("access.roles.dir: %w", err)
	}
	var files []file
	for _, e := range entries {
		name := filepath.Join(d.path, e.Name())
		if ext := filepath.Ext(name); strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			continue
		}
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("access.roles.dir: %w", err)
		case info.IsDir():
			continue
		case info.Size() > maxRoleBytes:
			return nil, fmt.Errorf("%s is larger than %d bytes", name, maxRoleBytes)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("access.roles.dir: %w", err)
		}
		files = append(files, file{name, string(text)})
	}
	return files, nil
}

func parseAll(files []file) (Roles, error) {
	var roles []Role
	var errs []error
	for _, f := range files {
		r, err := ParseRole([]byte(f.text))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
			continue
		}
		r.Source = f.name
		roles = append(roles, r)
	}
	if err := errors.Join(errs...); err != nil {
		return Roles{}, err
	}
	return NewRoles(roles...)
}

func print(files []file) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%q %q\n", f.name, f.text)
	}
	return b.String()
}
