package signin

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/templates"
)

// askedScope is one thing that a person says yes to for good, and how it is remembered.
type askedScope struct {
	// key is the scope, and for an api's the api too: a yes to one api's scope is none to another api's of the same name. For a client that nobody has
	// checked it has the origin that the answer goes to as well: that is whom the person has said yes to, and a client may name many.
	key  string
	view templates.ScopeView
}

// askedScopes are what a request asks a person for, authorization_details apart, each in the words of whoever defines it. The node that judged the
// request may have known an api that this one has yet to read: what it does not know, it cannot ask about.
func (s *Service) askedScopes(ctx context.Context, req *flow.Request, client *registry.Client) ([]askedScope, error) {
	if err := s.o.APIs.CatchUp(ctx, req.Asked(), req.Resources, nil); err != nil {
		return nil, err
	}
	var asked []askedScope
	speaking := map[string]bool{} // apis that have a sentence of their own here
	for _, scope := range req.Asked() {
		if sentence, own := s.o.Scopes[scope]; own {
			asked = append(asked, askedScope{key: scope, view: templates.ScopeView{Name: scope, Sentence: sentence}})
			continue
		}
		defined := false
		for _, api := range s.o.APIs.WithScope(scope) {
			if !slices.Contains(req.Resources, api.Identifier) {
				continue
			}
			defined = true
			speaking[api.Identifier] = true
			i := slices.IndexFunc(api.Scopes, func(d registry.Scope) bool { return d.Name == scope })
			asked = append(asked, askedScope{
				key:  consentKey(scope, api),
				view: templates.ScopeView{Name: scope, Sentence: api.Scopes[i].Sentence, API: api.Name},
			})
		}
		if !defined {
			// Its api was removed since the request was judged. Should it come back, nobody is to have it without having been asked.
			asked = append(asked, askedScope{key: scope, view: templates.ScopeView{Name: scope, Sentence: "Something that is no longer there: " + scope}})
		}
	}
	// An api that is named without anything else still learns who the person is.
	for _, resource := range req.Resources {
		api := s.o.APIs.Get(resource)
		if api == nil || speaking[resource] || asksInDetail(req, api) {
			continue
		}
		asked = append(asked, askedScope{
			key:  consentKey("", api),
			view: templates.ScopeView{Name: resource, Sentence: "Show who you are", API: api.Name},
		})
	}
	if !client.Verified() {
		for i := range asked {
			asked[i].key += " at " + registry.Origin(req.RedirectURI) // spaces, as in consentKey
		}
	}
	return asked, nil
}

// asksInDetail says whether an authorization_details object of the request is for the api: what that says is shown itself.
func asksInDetail(req *flow.Request, api *registry.API) bool {
	objects, err := detailObjects(req)
	return err == nil && slices.ContainsFunc(objects, func(object map[string]any) bool {
		return api.Details(kindOf(object)) != nil
	})
}

func kindOf(object map[string]any) string {
	kind, _ := object["type"].(string)
	return kind
}

func kindsOf(objects []map[string]any) []string {
	kinds := make([]string, len(objects))
	for i := range objects {
		kinds[i] = kindOf(objects[i])
	}
	return kinds
}

// detailObjects reads what oauth judged and wrote; nil if there is nothing.
func detailObjects(req *flow.Request) ([]map[string]any, error) {
	if req.Details == "" {
		return nil, nil
	}
	var objects []map[string]any
	d := json.NewDecoder(strings.NewReader(req.Details))
	d.UseNumber()
	err := d.Decode(&objects)
	return objects, err
}

// consentKey parts scope and identifier by a space, which neither has.
func consentKey(scope string, api *registry.API) string { return scope + " " + api.Identifier }

func keysOf(asked []askedScope) []string {
	keys := make([]string, len(asked))
	for i := range asked {
		keys[i] = asked[i].key
	}
	return keys
}

// askedDetails are the authorization_details of a request in words (RFC 9396 section 2): what the api says of the type, and what
// each field says.
func (s *Service) askedDetails(ctx context.Context, req *flow.Request) ([]templates.DetailView, error) {
	objects, err := detailObjects(req)
	if err == nil {
		err = s.o.APIs.CatchUp(ctx, nil, req.Resources, kindsOf(objects))
	}
	if err != nil {
		return nil, err
	}
	views := make([]templates.DetailView, 0, len(objects))
	for _, object := range objects {
		kind := kindOf(object)
		view := templates.DetailView{Type: kind}
		names := slices.Sorted(maps.Keys(object))
		var apis []string // all that the object is for; the first one's words
		for _, api := range s.o.APIs.WithDetails(kind) {
			if !slices.Contains(req.Resources, api.Identifier) {
				continue
			}
			if declared := api.Details(kind); len(apis) == 0 {
				view.Sentence, names = declared.Sentence, inOrder(names, declared)
			}
			apis = append(apis, api.Name)
		}
		view.API = strings.Join(apis, ", ")
		for _, name := range names {
			if name != "type" {
				view.Fields = append(view.Fields, templates.DetailField{Name: name, Value: inWords(object[name])})
			}
		}
		views = append(views, view)
	}
	return views, nil
}

// inOrder sorts names as the type declares its fields.
func inOrder(names []string, t *registry.DetailsType) []string {
	position := func(name string) int {
		if len(t.Fields) == 0 {
			return slices.Index(registry.CommonDetailsFields, name)
		}
		return slices.IndexFunc(t.Fields, func(f registry.DetailsField) bool { return f.Name == name })
	}
	slices.SortStableFunc(names, func(a, b string) int { return position(a) - position(b) })
	return names
}

// inWords is a JSON value as a person reads it.
func inWords(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case json.Number:
		return value.String()
	case bool:
		if value {
			return "yes"
		}
		return "no"
	case []any:
		words := make([]string, len(value))
		for i, item := range value {
			words[i] = inParentheses(item)
		}
		return strings.Join(words, ", ")
	case map[string]any:
		words := make([]string, 0, len(value))
		for _, name := range slices.Sorted(maps.Keys(value)) {
			words = append(words, name+": "+inParentheses(value[name]))
		}
		return strings.Join(words, ", ")
	}
	return "none"
}

// inParentheses is inWords for a part of something, so that where a list or an object within it ends can be seen.
func inParentheses(value any) string {
	switch value.(type) {
	case []any, map[string]any:
		return "(" + inWords(value) + ")"
	}
	return inWords(value)
}
