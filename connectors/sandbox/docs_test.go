package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const (
	docsFile = "../../docs/sandbox.md"
	// docsBase is where the dev command serves the sandbox.
	docsBase = "http://127.0.0.1:8082"
)

func docs(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// section is the lines of the document between a heading and the next.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, after, ok := strings.Cut(text, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", docsFile, heading)
	}
	before, _, _ := strings.Cut(after, "\n## ")
	return before
}

// table are the rows of the only table of a section, without its head.
func tableRows(text string) (rows []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "|") {
			rows = append(rows, line)
		}
	}
	return rows[2:]
}

// The document's tables say what the code does, row by row.
func TestTheDocumentListsThePersonas(t *testing.T) {
	rows := tableRows(section(t, docs(t), "Personas"))
	personas := DefaultPersonas()
	if len(rows) != len(personas) {
		t.Errorf("%d rows, %d personas", len(rows), len(personas))
	}
	for i, p := range personas {
		google, github, facebook := "–", "–", "–"
		if a := p.Google; a != nil {
			google = address(a.Email) + verified(a.EmailVerified)
			if a.HD != "" {
				google += ", `hd` " + a.HD
			}
		}
		if a := p.GitHub; a != nil {
			for _, e := range a.Emails {
				if e.Primary {
					github = "`" + a.Login + "`: " + address(e.Email) + verified(e.Verified)
				}
			}
		}
		if a := p.Facebook; a != nil {
			facebook = address(a.Email)
		}
		want := fmt.Sprintf("| `%s` | %s | %s | %s | %s |", p.Name, google, github, facebook, p.About)
		if i < len(rows) && rows[i] != want {
			t.Errorf("the document says\n%s\nbut it is\n%s", rows[i], want)
		}
	}
}

func address(email string) string {
	switch {
	case email == "":
		return "no address"
	case len(email) > 64:
		return fmt.Sprintf("an address of %d characters", len(email))
	}
	return email
}

func verified(yes bool) string {
	if yes {
		return ", verified"
	}
	return ", **not verified**"
}

func TestTheDocumentListsTheFaults(t *testing.T) {
	rows := tableRows(section(t, docs(t), "Faults"))
	rules := faultRules()
	if len(rows) != len(rules) {
		t.Errorf("%d rows, %d faults", len(rows), len(rules))
	}
	for i, rule := range rules {
		where := "all"
		if len(rule.providers) < len(Providers()) {
			where = quoted(rule.providers)
		}
		narrowed := ""
		if rule.calls {
			narrowed = "yes"
		}
		want := fmt.Sprintf("| `%s` | %s | %s | %s |", rule.name, where, narrowed, rule.about)
		if i < len(rows) && rows[i] != want {
			t.Errorf("the document says\n%s\nbut it is\n%s", rows[i], want)
		}
	}
}

// Every command in the document is run as it is written, but for the address.
func TestTheDocumentsCommandsWork(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	w := newWorld(t)
	blocks := strings.Split(docs(t), "\n```sh\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no commands")
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "\n```")
		for command := range strings.Lines(block) {
			if command = strings.TrimSpace(command); !strings.HasPrefix(command, "curl ") || !strings.Contains(command, docsBase) {
				t.Errorf("not a curl command to %s: %s", docsBase, command)
				continue
			}
			here := strings.ReplaceAll(command, docsBase, w.base)
			out, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(here, "curl ", "curl --fail-with-body ", 1)).Output()
			if err != nil {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
		}
	}
	if armed := w.Armed(); len(armed) != 0 {
		t.Errorf("the document leaves faults armed: %v", armed)
	}
}
