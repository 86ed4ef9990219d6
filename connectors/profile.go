package connectors

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
)

const (
	// maxSubject bounds a stable user id (OpenID Connect Core section 2: 255 ASCII characters).
	maxSubject = 255
	// maxText bounds a name as bytes. It is shown, not compared.
	maxText = 200
	// maxEmail bounds an address (RFC 5321 section 4.5.3.1: 64 + 1 + 255, of which 254 can be mailed).
	maxEmail = 254
	// maxPicture bounds a picture's URL; Facebook's signed ones have about 400 characters.
	maxPicture = 2048
	// maxAMR bounds how many authentication methods are kept.
	maxAMR = 16
)

// tidy makes a profile's texts fit to be stored and shown: bounded, valid UTF-8, without
// control or direction-changing characters. An address that is none is dropped rather
// than mended, for another person might own the mended one. It refuses a subject that
// could not be told from another.
func (p *Profile) tidy() error {
	if p.Subject == "" {
		return errors.New("no user id")
	}
	if len(p.Subject) > maxSubject || strings.ContainsFunc(p.Subject, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return errors.New("the user id is not one: at most 255 printable ASCII characters")
	}
	for _, s := range []*string{
		&p.Name, &p.GivenName, &p.FamilyName, &p.Username, &p.Locale, &p.MiddleName, &p.Nickname, &p.Gender, &p.Birthdate, &p.Zoneinfo,
	} {
		*s = plainText(*s)
	}
	if !plausibleEmail(p.Email) {
		p.Email, p.EmailVerified = "", false
	}
	for _, s := range []*string{&p.Picture, &p.Page, &p.Website} {
		if !secureURL(*s) {
			*s = ""
		}
	}
	if len(p.AMR) > maxAMR {
		p.AMR = p.AMR[:maxAMR]
	}
	return nil
}

// plainText is a text for one line of a page.
func plainText(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r == unicode.ReplacementChar, unicode.Is(unicode.Bidi_Control, r):
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.TrimSpace(trimmed(s, maxText))
}

// plausibleEmail says whether a string has the outline of a mailable address. Proof is a mail sent there.
func plausibleEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && domain != "" && len(s) <= maxEmail && !strings.Contains(domain, "@") &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar })
}

func secureURL(s string) bool {
	if len(s) > maxPicture {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}
