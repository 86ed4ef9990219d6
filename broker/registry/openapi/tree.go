package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parse makes nodes of a document, in the form that the YAML library gives them. JSON is read as such, and not as the YAML that it almost is:
// tabs and escaped surrogates are none.
func parse(data []byte) (*yaml.Node, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", MaxBytes)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return parseJSON(data)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) || err == nil && len(document.Content) != 1 {
		return nil, errors.New("it is empty")
	} else if err != nil {
		return nil, yamlError(err)
	}
	if err := decoder.Decode(&second); err == nil {
		return nil, fmt.Errorf("a second document begins in line %d", second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, yamlError(err)
	}
	return document.Content[0], nil
}

// yamlError says what the parser says, which may quote the document.
func yamlError(err error) error { return errors.New(printable(err.Error())) }

func parseJSON(data []byte) (*yaml.Node, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n, err := jsonValue(d, 0)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more follows after its end")
		}
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("json: line %d: %s", 1+bytes.Count(data[:min(int(d.InputOffset()), len(data))], []byte("\n")), printable(err.Error()))
	}
	return n, nil
}

// jsonValue is the next value.
func jsonValue(d *json.Decoder, depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, value string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value} }
	switch token := token.(type) {
	case string:
		return scalar("!!str", token), nil
	case json.Number:
		return scalar("!!float", token.String()), nil
	case bool:
		return scalar("!!bool", strconv.FormatBool(token)), nil
	case nil:
		return scalar("!!null", ""), nil
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if token == json.Delim('{') {
		n.Kind = yaml.MappingNode
	}
	for d.More() { // names and values alternate, as they do in a node of YAML
		item, err := jsonValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, item)
	}
	_, err = d.Token()
	return n, err
}

// object is a mapping's values by their names, and the names in the document's order. A missing one is an empty one.
type object struct {
	names  []string
	values map[string]*yaml.Node
}

// get is the value of a name, or nil.
func (o *object) get(name string) *yaml.Node { return o.values[name] }

// fail keeps the first error.
func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	if r.err != nil {
		return
	}
	r.err = fmt.Errorf(format, args...)
	if n != nil && n.Line > 0 {
		r.err = fmt.Errorf("line %d: %w", n.Line, r.err)
	}
}

// visit counts what is looked at. It reports false when that is too much.
func (r *reader) visit(values int) bool {
	if r.visits += values; r.visits > maxVisits {
		r.fail(nil, "there is more to it than %d values, counting each alias and $ref as what it stands for", maxVisits)
	}
	return r.err == nil
}

// target is what an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// isNull says whether there is nothing where something could be.
func isNull(n *yaml.Node) bool {
	n = target(n)
	return n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// object reads a mapping. nil and null are empty ones.
func (r *reader) object(n *yaml.Node) *object { return r.merged(n, 0) }

func (r *reader) merged(n *yaml.Node, depth int) *object {
	empty := &object{}
	n = target(n)
	switch {
	case isNull(n) || !r.visit(1):
		return empty
	case n.Kind != yaml.MappingNode:
		r.fail(n, "names and values are expected where there is %s", kind(n))
		return empty
	case depth > maxRefs:
		r.fail(n, "merge keys (<<) go more than %d deep, or in a circle", maxRefs)
		return empty
	}
	if o := r.objects[n]; o != nil {
		r.visit(len(o.names))
		return o
	}
	o := &object{values: make(map[string]*yaml.Node, len(n.Content)/2)}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content) && r.visit(1); i += 2 {
		name := target(n.Content[i])
		switch {
		case name.Kind != yaml.ScalarNode:
			r.fail(name, "a name is expected where there is %s", kind(name))
		case name.ShortTag() == "!!merge":
			merges = append(merges, n.Content[i+1])
		case o.values[name.Value] != nil:
			r.fail(name, "%s is there twice in one object, and nothing says which counts", quote(name.Value))
		default:
			o.add(name.Value, n.Content[i+1])
		}
	}
	for _, from := range merges {
		sources := []*yaml.Node{from}
		if list := target(from); list.Kind == yaml.SequenceNode {
			sources = list.Content
		}
		for _, source := range sources {
			s := r.merged(source, depth+1)
			for _, name := range s.names {
				if o.values[name] == nil { // what is written out counts, then what is merged first (https://yaml.org/type/merge.html)
					o.add(name, s.values[name])
				}
			}
		}
	}
	r.objects[n] = o
	return o
}

func (o *object) add(name string, value *yaml.Node) {
	o.names = append(o.names, name)
	o.values[name] = value
}

// list reads a sequence. nil is an empty one.
func (r *reader) list(n *yaml.Node) []*yaml.Node {
	n = target(n)
	if n == nil || !r.visit(1) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "a list is expected where there is %s", kind(n))
		return nil
	}
	r.visit(len(n.Content))
	return n.Content
}

// text reads a scalar. nil and null are empty ones.
func (r *reader) text(n *yaml.Node) string {
	n = target(n)
	if isNull(n) || !r.visit(1) {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		r.fail(n, "a text is expected where there is %s", kind(n))
		return ""
	}
	return n.Value
}

// kind says what a node is, to people.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// chain is an object, and those that its $ref leads to, one by one. problem says why there is no end of it that can be read.
func (r *reader) chain(n *yaml.Node) (chain []*object, problem string) {
	for {
		o := r.object(n)
		chain = append(chain, o)
		ref := r.text(o.get("$ref"))
		switch {
		case ref == "" || r.err != nil:
			return chain, ""
		case len(chain) > maxRefs:
			return chain, fmt.Sprintf("$ref leads on more than %d times, or in a circle", maxRefs)
		}
		if n, problem = r.resolve(ref); problem != "" {
			return chain, problem
		}
	}
}

// resolve is what a $ref stands for: a JSON Pointer as URI fragment (RFC 6901 section 6), within the document alone.
func (r *reader) resolve(ref string) (*yaml.Node, string) {
	pointer, isLocal := strings.CutPrefix(ref, "#/")
	if !isLocal {
		return nil, fmt.Sprintf("$ref %s leads out of the document, where nothing is read", quote(ref))
	}
	n := r.root
	for token := range strings.SplitSeq(pointer, "/") {
		name, err := url.PathUnescape(token)
		if err != nil || target(n).Kind != yaml.MappingNode {
			n = nil
		} else {
			n = r.object(n).get(strings.NewReplacer("~1", "/", "~0", "~").Replace(name))
		}
		if n == nil {
			return nil, fmt.Sprintf("$ref %s leads nowhere", quote(ref))
		}
	}
	if target(n).Kind != yaml.MappingNode {
		return nil, fmt.Sprintf("$ref %s leads to %s", quote(ref), kind(target(n)))
	}
	return n, ""
}

// oneLine is a text on one line of printable characters, of up to limit bytes.
func oneLine(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			return -1
		}
		return r
	}, text)
	return shorten(strings.Join(strings.Fields(text), " "), limit)
}

// shorten cuts a text that is longer than limit bytes, between characters, and shows that it did.
func shorten(text string, limit int) string {
	const more = "…"
	if len(text) <= limit {
		return text
	}
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strings.TrimRight(text[:cut], " ") + more
}

// quote is a text of the document in quotes.
func quote(text string) string { return strconv.Quote(shorten(text, maxQuoted)) }

// printable is a text of the document as it is, or in quotes if it would forge a line or a terminal's output.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(text) {
		return quote(text)
	}
	return shorten(text, maxQuoted)
}
