package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// maxPersonas bounds the people of a sandbox. A benchmark that wants a new account for each login makes many.
const maxPersonas = 100_000

// Persona is one person with an account at one or more providers. A nil account is none.
type Persona struct {
	Name     string           `json:"name"`  // [a-z0-9-]{1,32}, unique
	About    string           `json:"about"` // what the persona is for, in a sentence
	Google   *GoogleAccount   `json:"google,omitempty"`
	GitHub   *GitHubAccount   `json:"github,omitempty"`
	Facebook *FacebookAccount `json:"facebook,omitempty"`
}

// GoogleAccount is what Google knows of a person.
type GoogleAccount struct {
	Sub           string `json:"sub"`
	Email         string `json:"email"`
	EmailVerified bool   `json:"email_verified"`
	Name          string `json:"name"`
	GivenName     string `json:"given_name"`
	FamilyName    string `json:"family_name"`
	Picture       string `json:"picture"`
	HD            string `json:"hd,omitempty"` // the Workspace domain; "" for a personal account
}

// GitHubAccount is what GitHub knows of a person.
type GitHubAccount struct {
	ID     int64         `json:"id"`
	Login  string        `json:"login"`
	Name   string        `json:"name"`  // "" is null on the wire
	Email  string        `json:"email"` // the public profile address; "" is null on the wire
	Emails []GitHubEmail `json:"emails"`
}

// GitHubEmail is an entry of GitHub's /user/emails.
type GitHubEmail struct {
	Email      string  `json:"email"`
	Primary    bool    `json:"primary"`
	Verified   bool    `json:"verified"`
	Visibility *string `json:"visibility"` // "public", "private" or nil
}

// FacebookAccount is what Facebook knows of a person.
type FacebookAccount struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	Email     string `json:"email,omitempty"` // "" is absent on the wire
	Picture   string `json:"picture"`
}

// Email is a persona's main address for display: Google's, else GitHub's primary one, else Facebook's, else "".
func (p Persona) Email() string {
	if p.Google != nil && p.Google.Email != "" {
		return p.Google.Email
	}
	if p.GitHub != nil {
		for _, e := range p.GitHub.Emails {
			if e.Primary {
				return e.Email
			}
		}
	}
	if p.Facebook != nil {
		return p.Facebook.Email
	}
	return ""
}

// has says whether the persona has an account at the provider.
func (p *Persona) has(provider Provider) bool {
	switch provider {
	case Google:
		return p.Google != nil
	case GitHub:
		return p.GitHub != nil
	case Facebook:
		return p.Facebook != nil
	}
	return false
}

// shown is how a provider's page calls the persona: a name, and an address or login.
func (p *Persona) shown(provider Provider) (name, detail string) {
	switch provider {
	case Google:
		return p.Google.Name, p.Google.Email
	case GitHub:
		return cmp.Or(p.GitHub.Name, p.GitHub.Login), "@" + p.GitHub.Login
	default:
		return p.Facebook.Name, p.Facebook.Email
	}
}

// hints are what a login_hint can name the persona by at a provider, besides its name.
func (p *Persona) hints(provider Provider) []string {
	switch provider {
	case Google:
		return []string{p.Google.Sub, p.Google.Email}
	case GitHub:
		h := []string{p.GitHub.Login}
		for _, e := range p.GitHub.Emails {
			if e.Primary {
				h = append(h, e.Email)
			}
		}
		return h
	default:
		return []string{p.Facebook.ID, p.Facebook.Email}
	}
}

// people are the personas and the ways to find one. It is not changed once made.
type people struct {
	list   []Persona
	auto   *Persona
	byName map[string]*Persona
	byHint map[Provider]map[string]*Persona // lower case
	first  map[Provider]*Persona
}

var personaForm = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

func newPeople(list []Persona, auto string) (people, error) {
	p := people{list: list, byName: map[string]*Persona{}, byHint: map[Provider]map[string]*Persona{}, first: map[Provider]*Persona{}}
	if len(list) == 0 || len(list) > maxPersonas {
		return p, fmt.Errorf("needs 1 to %d personas", maxPersonas)
	}
	var problems []error
	subjects := map[string]bool{}
	for i := range list {
		one := &list[i]
		if !personaForm.MatchString(one.Name) || p.byName[one.Name] != nil {
			problems = append(problems, fmt.Errorf("persona %q: the name must be 1 to 32 of a-z, 0-9 and -, and be used once", one.Name))
		}
		p.byName[one.Name] = one
		if err := one.checkIDs(); err != nil {
			problems = append(problems, fmt.Errorf("persona %q: %w", one.Name, err))
		}
		for _, subject := range one.subjects() {
			if subjects[subject] {
				problems = append(problems, fmt.Errorf("persona %q: %s is another persona's", one.Name, subject))
			}
			subjects[subject] = true
		}
	}
	for _, provider := range Providers() {
		p.byHint[provider] = map[string]*Persona{}
		for i := range list {
			one := &list[i]
			if !one.has(provider) {
				continue
			}
			if p.first[provider] == nil {
				p.first[provider] = one
			}
			for _, hint := range one.hints(provider) {
				// The first wins: mallory's address is ann's.
				if key := strings.ToLower(hint); key != "" && p.byHint[provider][key] == nil {
					p.byHint[provider][key] = one
				}
			}
		}
		for i := range list {
			if one := &list[i]; one.has(provider) {
				p.byHint[provider][one.Name] = one // over any login of the same spelling
			}
		}
	}
	if auto != "" {
		if p.auto = p.byName[auto]; p.auto == nil {
			problems = append(problems, fmt.Errorf("no persona is called %q, as Auto says", auto))
		}
	}
	return p, errors.Join(problems...)
}

// checkIDs refuses an account without a stable id.
func (p *Persona) checkIDs() error {
	switch {
	case p.Google != nil && p.Google.Sub == "":
		return errors.New("the Google account has no sub")
	case p.GitHub != nil && (p.GitHub.ID <= 0 || p.GitHub.Login == ""):
		return errors.New("the GitHub account has no id or no login")
	case p.Facebook != nil && p.Facebook.ID == "":
		return errors.New("the Facebook account has no id")
	}
	return nil
}

// subjects are the persona's stable ids, which no other may have.
func (p *Persona) subjects() (s []string) {
	if p.Google != nil {
		s = append(s, "google sub "+p.Google.Sub)
	}
	if p.GitHub != nil {
		s = append(s, "github id "+strconv.FormatInt(p.GitHub.ID, 10), "github login "+strings.ToLower(p.GitHub.Login))
	}
	if p.Facebook != nil {
		s = append(s, "facebook id "+p.Facebook.ID)
	}
	return s
}

// named is the persona with an account at the provider whom a hint names, or nil.
func (p *people) named(provider Provider, hint string) *Persona {
	return p.byHint[provider][strings.ToLower(hint)]
}

// DefaultPersonas are the people of a sandbox that was given none. The slice is the caller's to change.
func DefaultPersonas() []Persona {
	return []Persona{
		{
			Name: "ann", About: "the ordinary case: one address, the same and verified everywhere",
			Google: &GoogleAccount{
				Sub: "110248495921238986420", Email: "ann.lee@gmail.com", EmailVerified: true,
				Name: "Ann Lee", GivenName: "Ann", FamilyName: "Lee", Picture: picture("ann"),
			},
			GitHub: &GitHubAccount{
				ID: 583231, Login: "annlee", Name: "Ann Lee", Email: "ann.lee@gmail.com",
				Emails: []GitHubEmail{
					{Email: "ann.lee@gmail.com", Primary: true, Verified: true, Visibility: new("public")},
					{Email: "583231+annlee@users.noreply.github.com", Verified: true},
				},
			},
			Facebook: &FacebookAccount{
				ID: "3304354912912197", Name: "Ann Lee", FirstName: "Ann", LastName: "Lee", Email: "ann.lee@gmail.com", Picture: picture("ann"),
			},
		},
		{
			Name: "bob", About: "works in a Google Workspace domain (hd is example.com)",
			Google: &GoogleAccount{
				Sub: "104711358226741902733", Email: "bob@example.com", EmailVerified: true, HD: "example.com",
				Name: "Bob Stone", GivenName: "Bob", FamilyName: "Stone", Picture: picture("bob"),
			},
			GitHub: &GitHubAccount{
				ID: 7714402, Login: "bobstone", Name: "Bob Stone",
				Emails: []GitHubEmail{
					{Email: "bob@example.com", Primary: true, Verified: true, Visibility: new("private")},
					{Email: "bob.stone@old.example.com"},
				},
			},
		},
		{
			Name: "cleo", About: "gives Facebook no address, and keeps GitHub's private",
			GitHub: &GitHubAccount{
				ID: 21650093, Login: "cleo-m", Name: "Cleo Moreau",
				Emails: []GitHubEmail{
					{Email: "cleo@example.org", Primary: true, Verified: true, Visibility: new("private")},
					{Email: "21650093+cleo-m@users.noreply.github.com", Verified: true},
				},
			},
			Facebook: &FacebookAccount{
				ID: "10229871604462515", Name: "Cleo Moreau", FirstName: "Cleo", LastName: "Moreau", Picture: picture("cleo"),
			},
		},
		{
			Name: "mallory", About: "the attacker: entered ann's address on GitHub, unverified, and on Facebook, which never says",
			GitHub: &GitHubAccount{
				ID: 66600013, Login: "mallory", Email: "ann.lee@gmail.com", // no name
				Emails: []GitHubEmail{
					{Email: "ann.lee@gmail.com", Primary: true, Visibility: new("public")},
					{Email: "mallory@evil.example", Verified: true},
				},
			},
			Facebook: &FacebookAccount{
				ID: "2666013137708845", Name: "Mallory Finch", FirstName: "Mallory", LastName: "Finch", Email: "ann.lee@gmail.com", Picture: picture("mallory"),
			},
		},
		{
			Name: "uma", About: "has a Google account whose address was never verified",
			Google: &GoogleAccount{
				Sub: "117302566180349920471", Email: "uma@example.net",
				Name: "Uma Rao", GivenName: "Uma", FamilyName: "Rao", Picture: picture("uma"),
			},
		},
		{
			Name: "nora", About: "has no address on GitHub but the noreply one, which takes no mail",
			GitHub: &GitHubAccount{
				ID: 40881256, Login: "nora-k", Name: "Nora Khalil",
				Emails: []GitHubEmail{{Email: "40881256+nora-k@users.noreply.github.com", Primary: true, Verified: true}},
			},
		},
		otto(),
	}
}

const (
	// ottoID is one more than a float64 can tell from its neighbour (2^53).
	ottoID = 1<<53 + 1
	// ottoEmails is more than the largest page of GitHub's list of addresses.
	ottoEmails = 120
)

// otto is everything long or unusual that a provider may say. His primary address is the last of the list at
// GitHub, and has 254 characters, the most that can be mailed (RFC 5321 section 4.5.3.1).
func otto() Persona {
	name := `Ottó "大谷" O’Żółć-Ångström <b>&amp;</b> ` + strings.Repeat("Őtto ", 50) + "🦦"
	address := strings.Repeat("o", 64) + "@" + strings.Repeat("t", 60) + "." + strings.Repeat("t", 60) + "." + strings.Repeat("o", 59) + ".example"
	var emails []GitHubEmail
	for i := range ottoEmails - 1 {
		emails = append(emails, GitHubEmail{Email: fmt.Sprintf("otto+%d@example.com", i+1), Verified: true})
	}
	emails = append(emails, GitHubEmail{Email: address, Primary: true, Verified: true, Visibility: new("private")})
	return Persona{
		Name: "otto", About: "unusual and long values: scripts, markup in his name, an id beyond 2^53, 120 addresses on GitHub",
		Google: &GoogleAccount{
			Sub: "109999999999999999999", Email: address, EmailVerified: true,
			Name: name, GivenName: "Ottó", FamilyName: "O’Żółć-Ångström", Picture: picture("otto"),
		},
		GitHub: &GitHubAccount{ID: ottoID, Login: "otto-has-the-longest-login-github-gives", Name: name, Emails: emails},
		Facebook: &FacebookAccount{
			ID: "99999999999999999", Name: name, FirstName: "Ottó", LastName: "O’Żółć-Ångström", Email: address, Picture: picture("otto"),
		},
	}
}

// picture is the address of a picture that does not exist: .invalid resolves nowhere (RFC 2606 section 2), so nobody's
// page asks a real host for it.
func picture(name string) string { return "https://pictures.invalid/" + name + ".png" }
