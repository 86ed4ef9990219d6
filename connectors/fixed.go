package connectors

import (
	"context"
	"errors"
	"net/url"
	"reflect"
	"slices"
)

const (
	typeFixed = "fixed"
	// fixedSubjects is the issuer of fixed identities: no provider's.
	fixedSubjects = "urn:portico:fixed"
	// fixedCode stands where a provider's code would. It is no secret: the trip's state is what a callback needs, and no other trip has it.
	fixedCode = "fixed"
)

// fixedConnector signs everybody in as one configured person, without a page, a password or a call: for test runs that nobody watches, such as those of the
// OpenID Foundation's conformance suite against a broker whose issuer is https, where there is no sandbox.
type fixedConnector struct {
	base
	profile Profile
}

func newFixed(b base) (Connector, error) {
	s := b.settings
	problems := s.only("insecure_signs_everyone_in", "profile")
	if !s.InsecureSignsEveryoneIn {
		problems = append(problems, errors.New("insecure_signs_everyone_in: has to be true, for that is what this connector does"))
	}
	for _, k := range []struct {
		key string
		set bool
	}{
		{"client_id", s.ClientID != ""},
		{"client_secret", s.ClientSecret != ""},
		{"scopes", len(s.Scopes) > 0},
	} {
		if k.set {
			problems = append(problems, errors.New(k.key+": does not apply to type fixed, which has no provider"))
		}
	}
	profile := s.Profile
	if err := profile.tidy(); err != nil {
		problems = append(problems, errors.New("profile.subject: "+err.Error()))
	} else if !reflect.DeepEqual(profile, s.Profile) { // a provider's profile is cut to what can be kept, an operator's refused
		problems = append(problems, errors.New("profile: a text is too long or has characters that cannot be shown, the email is none, or a URL is not https"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	profile.Issuer = fixedSubjects
	if b.info.DisplayName == "" {
		b.info.DisplayName = b.info.Name
	}
	return &fixedConnector{base: b, profile: profile}, nil
}

// AuthorizeURL implements [Connector]: the browser goes straight on to the callback.
func (c *fixedConnector) AuthorizeURL(_ context.Context, trip Trip) (string, error) {
	if e := c.checkTrip(trip, false, false); e != nil {
		return "", e
	}
	return trip.RedirectURI + "?" + url.Values{"code": {fixedCode}, "state": {trip.State}}.Encode(), nil
}

// Exchange implements [Connector]. The person proved themselves now, or as much as they ever do.
func (c *fixedConnector) Exchange(_ context.Context, _ Trip, callback url.Values) (*Profile, error) {
	code, e := judgeCallback(callback, fixedSubjects)
	if e != nil {
		return nil, c.named(e)
	}
	if code != fixedCode {
		return nil, c.fail(Untrusted, "the callback has a code that this connector did not make")
	}
	profile := c.profile
	profile.AuthTime = c.now()
	profile.AMR = slices.Clone(profile.AMR)
	return &profile, nil
}
