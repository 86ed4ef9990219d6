package config

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	envPrefix = "PORTICO_"
	// envConfig names the file to read, which is the command line's to know.
	envConfig = "PORTICO_CONFIG"
	// envTest is where tests keep what they need to know.
	envTest = "PORTICO_TEST_"
)

// linkForm are the variables that Kubernetes sets in every container for each of its services ("service links"), and
// Docker once did: a service called portico or portico-mongo must not keep the broker from starting.
var linkForm = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

func serviceLink(name, value string) bool {
	return linkForm.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

// overlay puts the environment over c.
func (r *reader) overlay(environ []string, c *Config) {
	values := map[string]string{}
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if ok && value != "" && strings.HasPrefix(name, envPrefix) && name != envConfig && !strings.HasPrefix(name, envTest) {
			values[name] = value
		}
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.SortFunc(names, compareNames)
	for _, name := range names {
		if r.full() {
			return
		}
		r.variable(name, values[name], c)
	}
}

// compareNames orders variables so that an item's index comes after lower ones, as it has to be made after them.
func compareNames(a, b string) int {
	as, bs := strings.Split(a, "_"), strings.Split(b, "_")
	return slices.CompareFunc(as, bs, func(a, b string) int {
		n, errA := strconv.Atoi(a)
		m, errB := strconv.Atoi(b)
		if errA == nil && errB == nil {
			return cmp.Or(cmp.Compare(n, m), cmp.Compare(a, b))
		}
		return cmp.Compare(a, b)
	})
}

// target is what a variable stands for.
type target struct {
	path    string
	section reflect.Value // that it is a key of
	key     key
}

func (r *reader) variable(name, value string, c *Config) {
	o := origin{source: printable(name)}
	rest := strings.TrimPrefix(name, envPrefix)
	targets := targetsOf(reflect.ValueOf(c).Elem(), "", rest)
	switch {
	case len(targets) == 0 && serviceLink(name, value):
		return
	case len(targets) == 0:
		message := "is not a setting of the broker"
		if near := nearest(rest, envNames(reflect.ValueOf(c).Elem(), "")); near != "" {
			message += didYouMean(envPrefix + near)
		}
		r.report(o, "", message)
		return
	case len(targets) > 1:
		r.report(o, "", "may mean "+targets[0].path+" or "+targets[1].path+"; address the item by its index")
		return
	}
	t := targets[0]
	field := t.section.FieldByIndex(t.key.index)
	switch kindOf(t.key.of) {
	case kindSection:
		r.report(o, t.path, "is not a single setting; its keys are "+strings.Join(keyNames(t.key.of), ", "))
		return
	case kindList:
		r.report(o, t.path, "is a list whose items have keys; set them one by one, such as "+name+"_0_"+envKey(keysOf(t.key.of.Elem())[0].name))
		return
	}
	r.replace(t, o)
	if kindOf(t.key.of) == kindLeaf {
		if message := set(field, word{text: value}); message != "" {
			r.report(o, t.path, message)
		}
		return
	}
	list := reflect.MakeSlice(t.key.of, 0, 0)
	for text := range strings.SplitSeq(value, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		element := reflect.New(t.key.of.Elem()).Elem()
		if message := set(element, word{text: text}); message != "" {
			r.report(o, t.path, message)
		}
		list = reflect.Append(list, element)
	}
	field.Set(list)
}

// replace forgets what the file says about the target: what is wrong with that does not matter any more, and of a secret and
// the file for it the environment's takes the place of either.
func (r *reader) replace(t target, o origin) {
	for path := range r.origins {
		if strings.HasPrefix(path, t.path+"[") {
			delete(r.origins, path)
		}
	}
	r.problems = slices.DeleteFunc(r.problems, func(p Problem) bool {
		return p.Source == r.file && (p.Path == t.path || strings.HasPrefix(p.Path, t.path+"["))
	})
	for path := range r.spoilt {
		if path == t.path || strings.HasPrefix(path, t.path+"[") {
			delete(r.spoilt, path)
		}
	}
	r.origins[t.path] = o
	for up := parent(t.path); up != ""; up = parent(up) {
		if _, ok := r.origins[up]; !ok {
			r.origins[up] = o // an item or a section that only the environment has
		}
	}
	for _, k := range keysOf(t.section.Type()) {
		if k.secret == t.key.name || t.key.secret == k.name && k.of == secretType {
			at := join(parent(t.path), k.name)
			if r.origins[at].source == r.file {
				t.section.FieldByIndex(k.index).SetZero()
				delete(r.origins, at)
			}
		}
	}
}

// targetsOf are the settings that a variable can stand for; rest is its name from here on. More than one only if items
// of a list have names that begin alike.
func targetsOf(section reflect.Value, path, rest string) []target {
	var found []target
	for _, k := range keysOf(section.Type()) {
		at, name := join(path, k.name), envKey(k.name)
		if rest == name || k.secret != "" && rest == envKey(k.secret)+"_FILE" {
			return []target{{path: at, section: section, key: k}}
		}
		inner, ok := strings.CutPrefix(rest, name+"_")
		if !ok {
			continue
		}
		switch field := section.FieldByIndex(k.index); kindOf(k.of) {
		case kindSection:
			found = append(found, targetsOf(field, at, inner)...)
		case kindList:
			found = append(found, itemTargets(field, at, inner)...)
		}
	}
	return found
}

func itemTargets(list reflect.Value, path, rest string) []target {
	var found []target
	for i := range list.Len() {
		for _, label := range itemLabels(list.Index(i), i) {
			if inner, ok := strings.CutPrefix(rest, label+"_"); ok {
				found = append(found, targetsOf(list.Index(i), item(path, i), inner)...)
				break
			}
		}
	}
	if next, ok := strings.CutPrefix(rest, strconv.Itoa(list.Len())+"_"); ok && len(found) == 0 {
		length := list.Len()
		list.Set(reflect.Append(list, reflect.New(list.Type().Elem()).Elem()))
		found = targetsOf(list.Index(length), item(path, length), next)
		if len(found) != 1 {
			list.SetLen(length)
		}
	}
	return found
}

// itemLabels are what an item is called in variables: its name, and its index.
func itemLabels(element reflect.Value, i int) []string {
	labels := []string{strconv.Itoa(i)}
	for _, name := range []string{"name", "client_id", "username"} {
		for _, k := range keysOf(element.Type()) {
			// A client's name is for people; its client_id is what tells it apart. A connector has both, the other way round.
			if k.name == name && (name == "name") == (element.Type() == reflect.TypeFor[Connector]()) {
				if label := envKey(element.FieldByIndex(k.index).String()); label != "" {
					labels = append(labels, label)
				}
			}
		}
	}
	return labels
}

// envKey is a key or an item's name as it stands in a variable.
func envKey(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, s)
}

// envNames are the variables there are, without their prefix; items of lists by their names, or else by index.
func envNames(section reflect.Value, prefix string) []string {
	var names []string
	for _, k := range keysOf(section.Type()) {
		name := prefix + envKey(k.name)
		switch field := section.FieldByIndex(k.index); kindOf(k.of) {
		case kindSection:
			names = append(names, envNames(field, name+"_")...)
		case kindList:
			for i := range field.Len() {
				for _, label := range itemLabels(field.Index(i), i) {
					names = append(names, envNames(field.Index(i), name+"_"+label+"_")...)
				}
			}
		default:
			names = append(names, name)
			if k.secret != "" {
				if alias := prefix + envKey(k.secret) + "_FILE"; alias != name {
					names = append(names, alias)
				}
			}
		}
	}
	return names
}
