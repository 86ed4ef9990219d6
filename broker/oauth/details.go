package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/portico-id/portico/broker/registry"
)

// Rich authorization requests (RFC 9396): the parameter authorization_details, read strictly. Whatever is not declared by an
// api is refused, since nobody could say what a person agrees to with it.

// Bounds of authorization_details.
const (
	// maxDetailsBytes bounds the parameter: granted, it travels in every access token, which has to fit into a header line.
	maxDetailsBytes = 4 << 10
	// maxDetails bounds the objects: more than a consent page could show is no request that a person can answer.
	maxDetails = 16
	// maxDetailsDepth bounds nesting, the outermost list included: an amount within a payment within a list is four.
	maxDetailsDepth = 6
	// maxDetailsValues bounds all names and values together, for the same page.
	maxDetailsValues = 256
)

// detail is one object of authorization_details.
type detail struct {
	kind   string // its "type"
	fields map[string]any
	// canonical is the object as encoding/json writes it, with sorted names: by it two are compared, and it is what is kept.
	canonical string
}

// details are a request's authorization_details.
type details []detail

// String is the list as JSON, "" where there is none. It is what is kept in flows, grants and tokens.
func (d details) String() string {
	if len(d) == 0 {
		return ""
	}
	all := make([]string, len(d))
	for i := range d {
		all[i] = d[i].canonical
	}
	return "[" + strings.Join(all, ",") + "]"
}

// types are the types of the objects.
func (d details) types() []string {
	var types []string
	for i := range d {
		types = append(types, d[i].kind)
	}
	return types
}

func badDetails(format string, args ...any) *Error {
	return refuse(codeInvalidDetails, format, args...)
}

// parseDetails reads the parameter. What its objects may be is judged by judgeDetails.
func parseDetails(raw string) (details, *Error) {
	if raw == "" {
		return nil, nil
	}
	if len(raw) > maxDetailsBytes {
		return nil, badDetails("authorization_details is longer than %d bytes", maxDetailsBytes)
	}
	if !utf8.ValidString(raw) {
		return nil, badDetails("authorization_details is not UTF-8")
	}
	r := detailsReader{decoder: json.NewDecoder(strings.NewReader(raw))}
	r.decoder.UseNumber()
	value, err := r.value(0)
	if err == nil {
		if _, end := r.decoder.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows the list")
		}
	}
	if err != nil {
		return nil, badDetails("authorization_details cannot be read: %s", echo(err.Error()))
	}
	list, isList := value.([]any)
	switch {
	case !isList:
		return nil, badDetails("authorization_details is not a list of objects (RFC 9396 section 2)")
	case len(list) > maxDetails:
		return nil, badDetails("authorization_details has more than %d objects", maxDetails)
	}
	all := make(details, 0, len(list))
	for _, item := range list {
		fields, isObject := item.(map[string]any)
		kind, hasType := fields["type"].(string)
		if !isObject || !hasType || kind == "" {
			return nil, badDetails("an item of authorization_details is not an object with a type (RFC 9396 section 2)")
		}
		canonical, err := json.Marshal(fields)
		if err != nil {
			return nil, internal(err)
		}
		d := detail{kind: kind, fields: fields, canonical: string(canonical)}
		if slices.ContainsFunc(all, func(o detail) bool { return o.canonical == d.canonical }) {
			return nil, badDetails("authorization_details has an object twice")
		}
		all = append(all, d)
	}
	// Once more, as it will travel: some characters are longer there, and a token that is too long must not be found out about when the
	// person has agreed and the code is spent.
	if len(all.String()) > maxDetailsBytes {
		return nil, badDetails("authorization_details is longer than %d bytes when written as JSON for HTML", maxDetailsBytes)
	}
	return all, nil
}

// grantedDetails reads what String wrote.
func grantedDetails(stored string) (details, error) {
	all, refusal := parseDetails(stored)
	if refusal != nil {
		return nil, fmt.Errorf("stored authorization_details: %w", refusal)
	}
	return all, nil
}

// detailsReader reads JSON within the bounds. A name that is there twice is refused: one reader would show the first to the
// person, and another give the second to the api.
type detailsReader struct {
	decoder *json.Decoder
	values  int
}

func (r *detailsReader) value(depth int) (any, error) {
	token, err := r.decoder.Token()
	if err != nil {
		return nil, errors.New("it is not JSON")
	}
	if r.values++; r.values > maxDetailsValues {
		return nil, fmt.Errorf("it has more than %d names and values", maxDetailsValues)
	}
	switch token := token.(type) {
	case json.Delim:
		if depth == maxDetailsDepth {
			return nil, fmt.Errorf("it is nested deeper than %d", maxDetailsDepth)
		}
		if token == '{' {
			return r.object(depth + 1)
		}
		return r.list(depth + 1)
	case string:
		return token, printable(token)
	default: // a number, true, false or null
		return token, nil
	}
}

func (r *detailsReader) object(depth int) (any, error) {
	fields := map[string]any{}
	for r.decoder.More() {
		token, err := r.decoder.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return nil, errors.New("it is not JSON")
		}
		if _, twice := fields[name]; twice {
			return nil, errors.New("the name '" + name + "' is there twice in one object")
		}
		if err := printable(name); err != nil {
			return nil, err
		}
		if fields[name], err = r.value(depth); err != nil {
			return nil, err
		}
	}
	return fields, r.end()
}

func (r *detailsReader) list(depth int) (any, error) {
	list := []any{}
	for r.decoder.More() {
		value, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, r.end()
}

func (r *detailsReader) end() error {
	if _, err := r.decoder.Token(); err != nil {
		return errors.New("it is not JSON")
	}
	return nil
}

// printable refuses text that looks like another on the consent page: control characters, and those that turn the
// direction of writing around.
func printable(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("a text in it has characters that do not print")
	}
	return nil
}

// fits says whether an object is one of the type (RFC 9396 section 5: unknown fields, fields of the wrong type, missing
// fields are all refused).
func (d *detail) fits(t *registry.DetailsType) *Error {
	names := make([]string, 0, len(d.fields))
	for name := range d.fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "type" {
			continue
		}
		field := t.Field(name)
		if field == nil {
			return badDetails("authorization_details of type '%s' have no field '%s'", echo(d.kind), echo(name))
		}
		if !wellTyped(name, d.fields[name]) {
			return badDetails("the field '%s' of authorization_details is %s (RFC 9396 section 2.2)", echo(name), commonForm(name))
		}
		if len(field.Values) > 0 && !within(d.fields[name], field.Values) {
			return badDetails("the field '%s' of authorization_details of type '%s' may be %s alone", echo(name), echo(d.kind), echo(strings.Join(field.Values, ", ")))
		}
	}
	for _, field := range t.Fields {
		if _, there := d.fields[field.Name]; field.Required && !there {
			return badDetails("authorization_details of type '%s' need the field '%s'", echo(d.kind), echo(field.Name))
		}
	}
	return nil
}

// wellTyped checks the fields whose form RFC 9396 section 2.2 fixes.
func wellTyped(name string, value any) bool {
	if !slices.Contains(registry.CommonDetailsFields, name) {
		return true
	}
	if name == fieldIdentifier {
		_, isText := value.(string)
		return isText
	}
	return texts(value) != nil
}

// fieldIdentifier is the one common field that is no list.
const fieldIdentifier = "identifier"

func commonForm(name string) string {
	if name == fieldIdentifier {
		return "a string"
	}
	return "a list of strings, not an empty one"
}

// texts is a value that is a list of strings, or nil if it is anything else or empty.
func texts(value any) []string {
	list, isList := value.([]any)
	if !isList || len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, item := range list {
		text, isText := item.(string)
		if !isText {
			return nil
		}
		out[i] = text
	}
	return out
}

// within says whether a string, or each in a list of strings, is one of values.
func within(value any, values []string) bool {
	if text, isText := value.(string); isText {
		return slices.Contains(values, text)
	}
	list := texts(value)
	return list != nil && !slices.ContainsFunc(list, func(text string) bool { return !slices.Contains(values, text) })
}

// narrows says whether d asks for no more than granted does (RFC 9396 section 6): the same object, or one with fewer items
// in the common lists. A list that is left out would say "all", so the same fields must be there.
func (d *detail) narrows(granted *detail) bool {
	if d.canonical == granted.canonical {
		return true
	}
	if len(d.fields) != len(granted.fields) {
		return false
	}
	for name, value := range d.fields {
		had, there := granted.fields[name]
		if !there {
			return false
		}
		if name != fieldIdentifier && slices.Contains(registry.CommonDetailsFields, name) {
			if list, all := texts(value), texts(had); list == nil || !within(value, all) {
				return false
			}
			continue
		}
		a, errA := json.Marshal(value)
		b, errB := json.Marshal(had)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			return false
		}
	}
	return true
}
