package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// The keys are read off the structs: a field's yaml tag is its key, and a secret tag on a file's field names the field that
// the file's content is for.

// kind is how a key is written.
type kind int

const (
	kindLeaf    kind = iota // one word
	kindWords               // a list of words
	kindSection             // keys of its own
	kindList                // a list of sections
)

var (
	secretType   = reflect.TypeFor[Secret]()
	durationType = reflect.TypeFor[Duration]()
)

func kindOf(t reflect.Type) kind {
	switch {
	case t == secretType:
		return kindLeaf
	case t.Kind() == reflect.Struct:
		return kindSection
	case t.Kind() == reflect.Slice && kindOf(t.Elem()) == kindSection:
		return kindList
	case t.Kind() == reflect.Slice:
		return kindWords
	default:
		return kindLeaf
	}
}

// key is one key of a section.
type key struct {
	name   string
	index  []int  // of the field
	secret string // the key whose value is in the file that this one names; empty for any other
	of     reflect.Type
}

// keysOf are a section's keys; those of a struct in it that is tagged inline are its own.
func keysOf(section reflect.Type) []key {
	keys := make([]key, 0, section.NumField())
	for i := range section.NumField() {
		f := section.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			for _, k := range keysOf(f.Type) {
				k.index = append([]int{i}, k.index...)
				keys = append(keys, k)
			}
			continue
		}
		keys = append(keys, key{name: name, index: []int{i}, secret: f.Tag.Get("secret"), of: f.Type})
	}
	return keys
}

func keyNames(section reflect.Type) []string {
	var names []string
	for _, k := range keysOf(section) {
		names = append(names, k.name)
	}
	return names
}

// keyPaths are the paths of all keys that are not sections, with [] for the items of a list.
func keyPaths(section reflect.Type, path string) []string {
	var paths []string
	for _, k := range keysOf(section) {
		switch at := join(path, k.name); kindOf(k.of) {
		case kindSection:
			paths = append(paths, keyPaths(k.of, at)...)
		case kindList:
			paths = append(paths, keyPaths(k.of.Elem(), at+"[]")...)
		default:
			paths = append(paths, at)
		}
	}
	return paths
}

// elsewhere is a path whose last key is name, for one who wrote the right key in the wrong section.
func elsewhere(name string) string {
	for _, path := range keyPaths(reflect.TypeFor[Config](), "") {
		if last := path[strings.LastIndexByte(path, '.')+1:]; last == name {
			return path
		}
	}
	return ""
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent is the path of what holds path; "" holds everything.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// word is one value as it was written.
type word struct {
	text string
	tag  string // the YAML type; empty for a word from the environment
}

// set puts a word into a leaf, and says what is wrong with it or "".
func set(v reflect.Value, w word) string {
	switch w.tag {
	case "", "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
	default:
		return "found the tag " + quote(w.tag) + ", which means nothing here"
	}
	switch {
	case v.Type() == durationType:
		d, err := ParseDuration(w.text)
		if err != nil {
			return shorten(err.Error())
		}
		v.SetInt(int64(d))
	case v.Type() == secretType:
		if w.tag == "!!bool" {
			return "found true or false, not a secret; put it in quotes if it is one"
		}
		if len(w.text) > maxTextBytes {
			return fmt.Sprintf("has %d bytes, at most %d are allowed", len(w.text), maxTextBytes)
		}
		v.Set(reflect.ValueOf(NewSecret(w.text)))
	case v.Kind() == reflect.Int:
		n, err := strconv.ParseInt(w.text, 10, 32)
		if err != nil {
			return quote(w.text) + " is not a whole number"
		}
		v.SetInt(n)
	case v.Kind() == reflect.Bool:
		switch w.text {
		case "true", "false":
			v.SetBool(w.text == "true")
		default:
			return quote(w.text) + " is not true or false"
		}
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(w.text)
		if err != nil {
			return quote(w.text) + " is not a whole number"
		}
		v.SetInt(int64(n))
	default: // a string: numbers and dates too, letter for letter, because a Facebook app's id is a number
		switch {
		case w.tag == "!!bool":
			return fmt.Sprintf("found %s, not a text; put it in quotes if it is one", w.text)
		case len(w.text) > maxTextBytes:
			return fmt.Sprintf("has %d bytes, at most %d are allowed", len(w.text), maxTextBytes)
		case strings.ContainsFunc(w.text, control):
			return quote(w.text) + " has a control character"
		}
		v.SetString(w.text)
	}
	return ""
}

// maxTextBytes bounds every text: a JWK Set of a dozen keys is the longest there is.
const maxTextBytes = 16 << 10

// control: a line break in a name forges log lines, and in a URL headers.
func control(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfffd
}

// maxQuoted bounds how much of a bad value an error repeats.
const maxQuoted = 100

func quote(s string) string { return strconv.Quote(shorten(s)) }

// printable is s as it is, or in quotes if a log or a terminal would take a part of it for something else.
func printable(s string) string {
	if strings.ContainsFunc(s, control) {
		return quote(s)
	}
	return shorten(s)
}

func shorten(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	return strings.ToValidUTF8(s[:maxQuoted], "") + "…"
}
