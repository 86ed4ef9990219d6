package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxFileBytes bounds the file. A thousand clients are a tenth of it.
	maxFileBytes = 1 << 20
	// maxValues bounds the values in it after aliases are followed: aliases of lists in lists of aliases would multiply
	// without end.
	maxValues = 100_000
	// maxProblems bounds the report: a file that is something else altogether is wrong on every line.
	maxProblems = 100
)

// origin is where a value was written.
type origin struct {
	source string
	line   int
}

// reader fills a Config from a file and an environment, and remembers where each value is from and what was wrong.
type reader struct {
	file     string
	problems Problems
	origins  map[string]origin // by path
	// spoilt are the paths of values that are there but unusable: what follows from their absence is not worth a word.
	spoilt map[string]bool
	values int
}

func (r *reader) report(o origin, path, message string) {
	if !r.full() {
		r.problems = append(r.problems, Problem{Source: o.source, Line: o.line, Path: path, Message: message})
	}
	if path != "" { // a file or variable as a whole has no value that could be missing
		r.spoilt[path] = true
	}
}

// full says whether there are enough problems to report, so that looking for more is a waste.
func (r *reader) full() bool { return len(r.problems) >= maxProblems }

// unreadable reports that nothing could be made of the file.
func (r *reader) unreadable(o origin, message string) {
	r.report(o, "", message)
	r.spoilt[""] = true
}

func (r *reader) at(n *yaml.Node) origin { return origin{source: r.file, line: n.Line} }

// origin is where the value at path, or the nearest thing around it, was written.
func (r *reader) origin(path string) origin {
	for {
		if o, ok := r.origins[path]; ok {
			return o
		}
		if path == "" {
			return origin{source: r.file}
		}
		path = parent(path)
	}
}

var yamlLine = regexp.MustCompile(`^line ([0-9]+): `)

// yamlProblem is a YAML syntax error, with its line where the parser says it.
func (r *reader) yamlProblem(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	o := origin{source: r.file}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		o.line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	r.unreadable(o, "is not YAML: "+shorten(message))
}

// decode reads a YAML file into c. A file without a document is an empty one.
func (r *reader) decode(data []byte, c *Config) {
	if len(data) > maxFileBytes {
		r.unreadable(origin{source: r.file}, fmt.Sprintf("is too large: more than %d bytes", maxFileBytes))
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return
	} else if err != nil {
		r.yamlProblem(err)
		return
	}
	if err := decoder.Decode(&second); err == nil {
		r.report(r.at(&second), "", "a second document (---) begins here; the configuration is one")
	} else if !errors.Is(err, io.EOF) {
		r.yamlProblem(err)
	}
	if len(document.Content) != 1 {
		return
	}
	if root := document.Content[0]; root.Kind == yaml.MappingNode || root.ShortTag() == "!!null" {
		r.value(root, reflect.ValueOf(c).Elem(), "")
	} else {
		r.unreadable(r.at(root), "found "+found(root)+", want keys and values: issuer: https://…, and so on")
	}
}

// follow is what an alias stands for. It reports false when there are too many values.
func (r *reader) follow(n *yaml.Node, path string) (*yaml.Node, bool) {
	if r.values++; r.values > maxValues {
		if r.values == maxValues+1 {
			r.report(r.at(n), path, fmt.Sprintf("more than %d values, counting each alias as what it stands for", maxValues))
		}
		return nil, false
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n, n != nil
}

// found says what a node is, to people.
func found(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// value reads a node into v. A key without a value is as if it were not there: that is what is left of a section when its
// lines are commented out.
func (r *reader) value(written *yaml.Node, v reflect.Value, path string) {
	n, ok := r.follow(written, path)
	if !ok || n.ShortTag() == "!!null" {
		return
	}
	wrong := func(want string) { r.report(r.origin(path), path, "found "+found(n)+", want "+want) }
	switch kindOf(v.Type()) {
	case kindSection:
		if n.Kind != yaml.MappingNode {
			wrong("keys and values: " + strings.Join(keyNames(v.Type()), ", "))
			return
		}
		r.section(n, v, path)
	case kindList:
		if n.Kind != yaml.SequenceNode {
			wrong("a list whose items have keys")
			return
		}
		list := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), 64))
		for i, node := range n.Content {
			at := item(path, i)
			r.origins[at] = r.at(node)
			element := reflect.New(v.Type().Elem()).Elem()
			if node.ShortTag() == "!!null" {
				r.report(r.at(node), at, "is empty")
			}
			r.value(node, element, at)
			if list = reflect.Append(list, element); r.values > maxValues {
				return
			}
		}
		v.Set(list)
	case kindWords:
		if n.Kind != yaml.SequenceNode {
			wrong("a list, such as [a, b]")
			return
		}
		list := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), 64))
		for i, node := range n.Content {
			at := item(path, i)
			r.origins[at] = r.at(node)
			element := reflect.New(v.Type().Elem()).Elem()
			r.leaf(node, element, at)
			if list = reflect.Append(list, element); r.values > maxValues {
				return
			}
		}
		v.Set(list)
	default:
		r.leaf(written, v, path)
	}
}

func (r *reader) leaf(written *yaml.Node, v reflect.Value, path string) {
	n, ok := r.follow(written, path)
	if !ok {
		return
	}
	if n.Kind != yaml.ScalarNode {
		r.report(r.origin(path), path, "found "+found(n)+", want a single value")
		return
	}
	if n.ShortTag() == "!!null" {
		r.report(r.origin(path), path, "is empty")
		return
	}
	if message := set(v, word{text: n.Value, tag: n.ShortTag()}); message != "" {
		r.report(r.origin(path), path, message)
	}
}

// section reads a mapping into a struct.
func (r *reader) section(n *yaml.Node, v reflect.Value, path string) {
	keys := keysOf(v.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
		name, node := n.Content[i], n.Content[i+1]
		where := r.at(name)
		if name.Kind != yaml.ScalarNode {
			r.report(where, path, "found "+found(name)+" where a key should be")
			continue
		}
		at := join(path, printable(name.Value))
		if first, twice := seen[name.Value]; twice {
			r.report(where, at, fmt.Sprintf("is given twice; the first time in line %d", first))
			continue
		}
		seen[name.Value] = name.Line
		r.unknownOr(name, at, path, keys, func(k key) {
			if node.Kind == yaml.ScalarNode {
				where = r.at(node)
			}
			r.origins[at] = where
			r.value(node, v.FieldByIndex(k.index), at)
		})
		if r.values > maxValues {
			return
		}
	}
}

// unknownOr calls known with the key of that name, or reports that there is none.
func (r *reader) unknownOr(name *yaml.Node, at, path string, keys []key, known func(key)) {
	var names []string
	for _, k := range keys {
		if k.name == name.Value {
			known(k)
			return
		}
		names = append(names, k.name)
	}
	if name.ShortTag() == "!!merge" {
		r.report(r.at(name), path, "merge keys (<<) are not allowed; write the keys out")
		return
	}
	near := nearest(name.Value, names)
	message := "unknown key"
	switch {
	case near != "":
		message += didYouMean(near)
		r.spoilt[join(path, near)] = true
	case elsewhere(name.Value) != "":
		message += didYouMean(elsewhere(name.Value))
	default:
		message += "; the keys here are " + strings.Join(names, ", ")
	}
	r.report(r.at(name), at, message)
}
