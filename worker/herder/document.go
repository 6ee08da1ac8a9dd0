package herder

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// This file keeps documents of the worker's: things that are written like configurations, by the leader and in the order
// of the log, but that decide nothing here except, by their placement, where connectors may run. What they say is the worker's to read.

// Document is the record of a document; a nil Value deletes it.
type Document struct {
	Key   string
	Value any
	// Placement restricts the connectors that use the document to workers with these labels.
	Placement string
}

func (Document) record() {}

// documentState is what the machine knows of a document.
type documentState struct {
	rev       int64 // offset of its record
	placement string
}

// PutDocument writes or deletes a document.
type PutDocument struct {
	Document Document
	// Expect is the revision that the change was made from, the offset of its record; NoDocument: there was none.
	Expect int64
	// Creates says that what the document describes is not there yet, for the Reply.
	Creates bool
	// Permit, unless nil, judges the change by the configurations of all connectors, by name; an error refuses it.
	Permit func(configs map[string]map[string]string) error
}

// NoDocument is the revision of a document that is not there.
const NoDocument int64 = -1

func (PutDocument) connector() string { return "" }

// ErrDocument says that a document has changed meanwhile.
var ErrDocument = errors.New("the document has changed meanwhile")

func (m *Machine) applyDocument(r Document, offset int64) {
	m.lead.dirty = true
	if r.Value == nil {
		delete(m.documents, r.Key)
		return
	}
	m.documents[r.Key] = documentState{offset, r.Placement}
}

func (d *draft) putDocument(o PutDocument) error {
	have, there := d.m.documents[o.Document.Key]
	if !there {
		have.rev = NoDocument
	}
	if _, twice := d.documents[o.Document.Key]; twice || have.rev != o.Expect {
		return ErrDocument
	}
	if o.Permit != nil {
		if err := o.Permit(d.configurations()); err != nil {
			return err
		}
	}
	d.records = append(d.records, o.Document)
	d.documents[o.Document.Key] = o.Document.Placement
	return nil
}

// configurations are those of all connectors after this transaction.
func (d *draft) configurations() map[string]map[string]string {
	configs := make(map[string]map[string]string, len(d.m.connectors))
	for name, c := range d.m.connectors {
		configs[name] = c.config
	}
	maps.Copy(configs, d.configs)
	maps.DeleteFunc(configs, func(_ string, c map[string]string) bool { return c == nil })
	return configs
}

// placement is what labels a worker must have to run a connector: its own setting says so, and the documents that it uses.
// drafted are the placements of documents that a transaction writes, by key.
func (m *Machine) placement(config, drafted map[string]string) string {
	rules := []string{placementOf(config)}
	if m.uses != nil {
		for _, key := range m.uses(config) {
			of, ok := drafted[key]
			if !ok {
				of = m.documents[key].placement
			}
			rules = append(rules, of)
		}
	}
	return strings.Join(slices.DeleteFunc(rules, func(r string) bool { return r == "" }), ",")
}

// together performs orders, or none of them. The reply is that of the first.
func (d *draft) together(orders []Order) Reply {
	before := *d
	before.touched, before.configs, before.tasks = maps.Clone(d.touched), maps.Clone(d.configs), maps.Clone(d.tasks)
	before.anew, before.documents = maps.Clone(d.anew), maps.Clone(d.documents)
	var first Reply
	for i, o := range orders {
		r := Reply{Err: ErrDocument}
		if o.connector() == "" || !before.touched[o.connector()] {
			r = d.perform(o)
		}
		if r.Err != nil {
			*d = before
			return r
		}
		if i == 0 {
			first = r
		}
	}
	return first
}
