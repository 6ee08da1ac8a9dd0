package rest

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"barnabas/config"
	"barnabas/worker"
)

// listPlugins lists the connectors; and with connectorsOnly, unless it is true, transforms, predicates and converters too.
func (s *Server) listPlugins(_ context.Context, r *request) (answer, error) {
	if r.query.Has("connectorsOnly") && !isTrue(r.query.Get("connectorsOnly")) {
		return ok(s.w.AllPlugins())
	}
	return ok(orEmpty(s.w.Plugins()))
}

// getPluginConfig lists the keys of a plugin's configuration.
func (s *Server) getPluginConfig(ctx context.Context, r *request) (answer, error) {
	name := r.param("plugin")
	class, found := s.pluginClass(name)
	other, others, another := worker.PluginKeys(name)
	if another && !found {
		class = other
	} else if !found {
		return answer{}, fail(http.StatusNotFound, "Unknown plugin %s.", name)
	}
	if r.query.Has("version") {
		if wrong := worker.CheckPluginVersion(class, r.query.Get("version")); wrong != "" {
			return answer{}, fail(http.StatusBadRequest, "%s", wrong)
		}
	}
	if !found {
		return ok(orEmpty(others))
	}
	infos, err := s.w.Validate(ctx, class, map[string]string{classKey: class})
	if err != nil {
		return answer{}, err
	}
	keys, last := []*config.KeyInfo{}, []*config.KeyInfo(nil)
	for _, info := range infos.Configs {
		switch d := info.Definition; {
		case d == nil:
		case d.Group != nil && slices.Contains(sourceGroups, *d.Group):
			last = append(last, d)
		default:
			keys = append(keys, d)
		}
	}
	return ok(append(keys, last...))
}

// sourceGroups are the keys that every source connector has. Connect lists them last, though in validate they come first.
var sourceGroups = []string{"Topic Creation", "Exactly Once Support", "offsets.topic"}

const aliasSuffix = "Connector"

// pluginClass finds a connector by its class name, its simple name, or that
// without "Connector".
func (s *Server) pluginClass(name string) (string, bool) {
	for _, p := range s.w.Plugins() {
		simple := p.Class[strings.LastIndex(p.Class, ".")+1:]
		if name == p.Class || name == simple || name == strings.TrimSuffix(simple, aliasSuffix) {
			return p.Class, true
		}
	}
	return "", false
}

// validate checks a configuration. A missing or unknown class answers 500, as in
// Connect; a class that is not the path's 400.
func (s *Server) validate(ctx context.Context, r *request) (answer, error) {
	plugin := r.param("plugin")
	written, err := readStrings(r.body)
	if err != nil {
		return answer{}, err
	}
	if written == nil {
		return answer{}, fail(http.StatusInternalServerError, "The request has no configuration.")
	}
	class := written[classKey]
	if class == nil {
		var f *failure
		errors.As(noClass(written), &f)
		f.status = http.StatusInternalServerError
		return answer{}, f
	}
	if !strings.HasSuffix(withoutSuffix(*class), withoutSuffix(plugin)) {
		return answer{}, fail(http.StatusBadRequest, "Included connector type %s does not match request type %s", *class, plugin)
	}
	plain, nulls := map[string]string{}, []string{}
	for k, v := range written {
		if v == nil {
			nulls = append(nulls, k)
			continue
		}
		plain[k] = *v
	}
	infos, err := s.w.Validate(ctx, *class, plain)
	if errors.Is(err, worker.ErrInvalid) {
		return answer{}, fail(http.StatusInternalServerError, "%s", err.Error())
	}
	if err != nil {
		return answer{}, err
	}
	return ok(withNulls(infos, nulls))
}

// withoutSuffix shortens a class name to what an alias is compared with.
func withoutSuffix(class string) string {
	if short := strings.TrimSuffix(class, aliasSuffix); short != "" {
		return short
	}
	return class
}

// withNulls adds Connect's error for values that are null. Keys that are not
// defined appear for it, without a definition, before the others.
func withNulls(infos config.Infos, nulls []string) config.Infos {
	slices.SortFunc(nulls, func(a, b string) int { return cmp.Compare(b, a) }) // each goes to the front
	for _, key := range nulls {
		i := slices.IndexFunc(infos.Configs, func(c config.Info) bool { return c.Value.Name == key })
		if i < 0 {
			infos.Configs = slices.Insert(infos.Configs, 0, config.Info{Value: config.ValueInfo{
				Name: key, RecommendedValues: []string{}, Errors: []string{}, Visible: true,
			}})
			i = 0
		}
		infos.Configs[i].Value.Errors = append(infos.Configs[i].Value.Errors, nullValue)
		infos.ErrorCount++
	}
	return infos
}
