package config

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Infos is the answer of PUT /connector-plugins/{class}/config/validate, field
// for field as Kafka Connect 4.3.1 writes it (its class ConfigInfos).
type Infos struct {
	Name       string   `json:"name"`
	ErrorCount int      `json:"error_count"`
	Groups     []string `json:"groups"`
	Configs    []Info   `json:"configs"`
}

// Info is a key with its value. Definition is nil for a key that is not defined.
type Info struct {
	Definition *KeyInfo  `json:"definition"`
	Value      ValueInfo `json:"value"`
}

// KeyInfo is the definition of a key (Connect's ConfigKeyInfo). Before it became a Java record, Connect
// wrote order_in_group as order.
type KeyInfo struct {
	Name          string     `json:"name"`
	Type          Type       `json:"type"`
	Required      bool       `json:"required"`
	DefaultValue  *string    `json:"default_value"`
	Importance    Importance `json:"importance"`
	Documentation string     `json:"documentation"`
	Group         *string    `json:"group"`
	Order         int        `json:"order_in_group"`
	Width         Width      `json:"width"`
	DisplayName   string     `json:"display_name"`
	Dependents    []string   `json:"dependents"`
}

// ValueInfo is the value of a key (Connect's ConfigValueInfo).
type ValueInfo struct {
	Name              string   `json:"name"`
	Value             *string  `json:"value"`
	RecommendedValues []string `json:"recommended_values"`
	Errors            []string `json:"errors"`
	Visible           bool     `json:"visible"`
}

// Infos judges s as Connect's validate does. name is the connector's class as
// it was asked for; more are problems found elsewhere, which are added at their keys. A key that d does
// not define appears, without a definition and before the others, if there is a problem with it.
//
// Values are shown as written, so unlike Connect's answer this one never holds
// what a reference resolved to. A literal PASSWORD is Hidden.
func (d *Def) Infos(name string, s Settings, more ...Problem) Infos {
	infos := Infos{Name: name, Groups: append([]string{}, d.groups...), Configs: []Info{}}
	added := map[string][]string{}
	for _, p := range more {
		if _, known := d.index[p.Key]; !known && added[p.Key] == nil {
			infos.Configs = append(infos.Configs, Info{Value: unknownInfo(p.Key, s)})
		}
		added[p.Key] = append(added[p.Key], p.Message)
	}
	for i, u := range infos.Configs {
		infos.Configs[i].Value.Errors = added[u.Value.Name]
	}
	for _, k := range d.keys {
		v, messages := k.parse(s)
		text := v.text()
		if k.Type == Class && len(messages) > 0 { // Kafka has no class to show
			text = nil
		}
		infos.Configs = append(infos.Configs, Info{Definition: k.info(), Value: ValueInfo{
			Name:              k.Name,
			Value:             text,
			RecommendedValues: append([]string{}, k.Recommended...),
			Errors:            append(append([]string{}, messages...), added[k.Name]...),
			Visible:           !k.Invisible,
		}})
	}
	for _, i := range infos.Configs {
		infos.ErrorCount += len(i.Value.Errors)
	}
	return infos
}

func unknownInfo(key string, s Settings) ValueInfo {
	info := ValueInfo{Name: key, RecommendedValues: []string{}, Visible: true}
	if setting, ok := s[key]; ok {
		info.Value = new(Redact(key, setting.Written))
	}
	return info
}

func (k Key) info() *KeyInfo {
	info := &KeyInfo{
		Name: k.Name, Type: k.Type, Required: k.Required, Importance: k.Importance,
		Documentation: k.Documentation, Width: k.Width, DisplayName: k.DisplayName,
		Dependents: append([]string{}, k.Dependents...), Order: k.Order,
	}
	if k.Group != "" {
		info.Group = &k.Group
	}
	if !k.Required && k.Default != nil {
		parsed, detail := parseType(*k.Default, k.Type)
		if detail != "" {
			panic(fmt.Sprintf("config: default of %s: %s", k.Name, detail))
		}
		info.DefaultValue = Value{Name: k.Name, kind: k.Type, parsed: newParsed(parsed)}.text()
	}
	return info
}

// DefFromInfos makes a definition out of a recorded answer of Kafka Connect's
// validate. Validators are not in it: add them with Check. Neither is the
// default of a PASSWORD, which Connect hides: it becomes the empty one.
func DefFromInfos(recorded []byte) (*Def, error) {
	var infos Infos
	if err := json.Unmarshal(recorded, &infos); err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	d := NewDef()
	for i, info := range infos.Configs {
		if info.Definition == nil {
			continue
		}
		k := info.Definition.key()
		if k.Name == "" || !slices.Contains(types, k.Type) {
			return nil, fmt.Errorf("read definitions: entry %d: name %q, type %q", i, k.Name, k.Type)
		}
		if k.Default != nil {
			if _, detail := parseType(*k.Default, k.Type); detail != "" {
				return nil, fmt.Errorf("read definitions: default of %s: %s", k.Name, detail)
			}
		}
		k.Recommended, k.Invisible = info.Value.RecommendedValues, !info.Value.Visible
		d.define(k)
	}
	d.groups = nil
	d.addGroups(infos.Groups...)
	return d, nil
}

var types = []Type{Boolean, String, Int, Short, Long, Double, List, Class, Password}

func (i KeyInfo) key() Key {
	k := Key{
		Name: i.Name, Type: i.Type, Required: i.Required, Default: i.DefaultValue, Importance: i.Importance,
		Documentation: i.Documentation, Order: i.Order, Width: i.Width, DisplayName: i.DisplayName, Dependents: i.Dependents,
	}
	if i.Group != nil {
		k.Group = *i.Group
	}
	if k.Type == Password && k.Default != nil {
		k.Default = new("")
	}
	return k
}
