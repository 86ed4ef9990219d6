package openapi

import (
	"slices"

	"github.com/portico-id/portico/broker/registry"
)

// Add puts endpoints beside those of the document, or in the place of those of the same method and path, whatever the document says of them. A note says
// which of them could take requests of an operation that is not registered.
func (d *Document) Add(endpoints ...registry.Endpoint) {
	for i := range endpoints {
		if there := endpointOf(d.Endpoints, &endpoints[i]); there != nil {
			*there = endpoints[i]
		} else {
			d.Endpoints = append(d.Endpoints, endpoints[i])
		}
	}
	isAdded := func(operation string) bool {
		return slices.ContainsFunc(endpoints, func(e registry.Endpoint) bool { return nameOf(&e) == operation })
	}
	d.lost = slices.DeleteFunc(d.lost, func(e registry.Endpoint) bool { return isAdded(nameOf(&e)) })
	d.Notes = slices.DeleteFunc(d.Notes, func(n Note) bool {
		return len(n.Operations) > 0 && !slices.ContainsFunc(n.Operations, func(o string) bool { return !isAdded(o) })
	})
	for i := range d.Notes {
		d.Notes[i].Operations = slices.DeleteFunc(d.Notes[i].Operations, isAdded)
	}
	all := routesOf(d.lost)
	for i := range endpoints {
		if lost := taking(all, &endpoints[i]); lost != nil && !endpoints[i].Denied {
			d.Notes = append(d.Notes, Note{
				Text:       "registered as you said, although it could take requests of an operation that is not registered: " + nameOf(lost),
				Operations: []string{nameOf(&endpoints[i])},
			})
		}
	}
}

// Apply makes an api what the document says: its scopes, its endpoints, and its URL if the document has one. What no document can say stays: how
// a person must have signed in for an endpoint that is still there and that a token still opens (RFC 9470), and with keepSentences the sentences of
// scopes that are still there. A document without scopes leaves the api's alone, and with them what can be asked for.
func (d *Document) Apply(a *registry.API, keepSentences bool) {
	if d.URL != "" {
		a.URL = d.URL
	}
	if len(d.Scopes) > 0 {
		scopes := slices.Clone(d.Scopes)
		for i := range scopes {
			if j := slices.IndexFunc(a.Scopes, func(s registry.Scope) bool { return s.Name == scopes[i].Name }); j >= 0 && keepSentences {
				scopes[i].Sentence = a.Scopes[j].Sentence
			}
		}
		a.Scopes = scopes
	}
	endpoints := slices.Clone(d.Endpoints)
	for i := range endpoints {
		e := &endpoints[i]
		if before := endpointOf(a.Endpoints, e); before != nil && !e.Public && !e.Denied {
			e.ACRValues, e.MaxAge = before.ACRValues, before.MaxAge
		}
	}
	a.Endpoints = endpoints
}

// endpointOf is the endpoint of the same method and path, or nil.
func endpointOf(list []registry.Endpoint, e *registry.Endpoint) *registry.Endpoint {
	i := slices.IndexFunc(list, func(o registry.Endpoint) bool { return o.Method == e.Method && o.Path == e.Path })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// Change is what an import does to a part of an api.
type Change struct {
	Part   string `json:"part"` // name, url, scope or endpoint
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Changes are the differences that an import makes, those of the document's order first. None: there is nothing to write. before may be nil.
func Changes(before, after *registry.API) []Change {
	if before == nil {
		before = &registry.API{}
	}
	var all []Change
	change := func(part, from, to string) {
		if from != to {
			all = append(all, Change{Part: part, Before: from, After: to})
		}
	}
	change("name", before.Name, after.Name)
	change("url", before.URL, after.URL)
	for _, s := range after.Scopes {
		change("scope", scopeText(before, s.Name), scopeText(after, s.Name))
	}
	for _, s := range before.Scopes {
		if !after.HasScope(s.Name) {
			change("scope", scopeText(before, s.Name), "")
		}
	}
	for i := range after.Endpoints {
		e, was := &after.Endpoints[i], ""
		if o := endpointOf(before.Endpoints, e); o != nil {
			was = o.String()
		}
		change("endpoint", was, e.String())
	}
	for i := range before.Endpoints {
		if e := &before.Endpoints[i]; endpointOf(after.Endpoints, e) == nil {
			change("endpoint", e.String(), "")
		}
	}
	return all
}

// scopeText is a scope with its sentence, "" if the api has none of that name.
func scopeText(a *registry.API, name string) string {
	for _, s := range a.Scopes {
		if s.Name == name {
			return s.Name + ": " + s.Sentence
		}
	}
	return ""
}
