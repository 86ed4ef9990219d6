package oauth

import (
	"slices"
	"strings"

	"github.com/portico-id/portico/broker/flow"
)

// Authentication context classes (OpenID Connect Core section 2): what the broker says of how a person signed in. An app asks for
// them with acr_values or the claims parameter, an API with a challenge that its app passes on (RFC 9470).

// The acr values that the broker asserts.
const (
	// ACRFederated: the person signed in at a provider. The broker vouches for the provider's word and for nothing more.
	ACRFederated = "urn:portico:acr:federated"
	// ACRMFA: so they did, and the provider says that it took more than one factor.
	ACRMFA = "urn:portico:acr:mfa"
)

// acrSatisfies says which classes a sign-in of a class also satisfies, itself first.
var acrSatisfies = map[string][]string{
	ACRFederated: {ACRFederated},
	ACRMFA:       {ACRMFA, ACRFederated},
}

// acrSupported are all of them, as metadata lists them.
var acrSupported = []string{ACRFederated, ACRMFA}

// factor is one of the three kinds of proof (NIST SP 800-63-3 section 4.1).
type factor string

const (
	knowledge  factor = "something you know"
	possession factor = "something you have"
	inherence  factor = "something you are"
)

// amrFactors says what each authentication method proves (RFC 8176 section 2). Those that are left out prove no factor: where the
// person was (geo), how risky it looked (rba), that somebody was there (user), that Windows knew them (wia), that two channels were
// used (mca).
var amrFactors = map[string]factor{
	"kba": knowledge, "pin": knowledge, "pwd": knowledge,
	"hwk": possession, "otp": possession, "pop": possession, "sc": possession, "sms": possession, "swk": possession, "tel": possession,
	"face": inherence, "fpt": inherence, "iris": inherence, "retina": inherence, "vbm": inherence,
}

// ACR is the class of a sign-in at a provider that used these methods (RFC 8176): ACRMFA where the provider says so, or names methods
// of two kinds. Two methods of one kind, such as a password and a PIN, are one factor.
func ACR(amr []string) string {
	seen := ""
	for _, method := range amr {
		if method == "mfa" {
			return ACRMFA
		}
		kind := string(amrFactors[method])
		if kind == "" {
			continue
		}
		if seen != "" && seen != kind {
			return ACRMFA
		}
		seen = kind
	}
	return ACRFederated
}

// AssertACR is the class to assert for a sign-in of class has, where any of wanted is asked for, in order of preference: the first of
// them that the sign-in satisfies. Where it satisfies none, or none is asked for, that is its own class; met says whether the wish was met.
func AssertACR(has string, wanted []string) (acr string, met bool) {
	for _, class := range wanted {
		if slices.Contains(acrSatisfies[has], class) {
			return class, true
		}
	}
	return has, len(wanted) == 0
}

// wantACR sets which classes a request asks for: the claims parameter's before acr_values, acr_values before the client's default
// (OpenID Connect Core sections 3.1.2.1, 5.5.1.1, Dynamic Registration section 2). A wish for classes that the broker never asserts
// cannot be met by signing in again: a voluntary one is passed over, an essential one is refused at once.
func wantACR(req *flow.Request, claimed *claimRequest, values, defaults []string) *Error {
	wanted := values
	if claimed != nil && len(claimed.wanted()) > 0 {
		wanted = claimed.wanted()
		req.ACREssential = claimed.Essential
	}
	if len(wanted) == 0 {
		wanted = defaults
	}
	for _, class := range wanted {
		if slices.Contains(acrSupported, class) && !slices.Contains(req.ACRValues, class) {
			req.ACRValues = append(req.ACRValues, class)
		}
	}
	if req.ACREssential && len(req.ACRValues) == 0 {
		return refuse(codeUnmetAuthentication, "none of the acr values asked for can be had here; there are: %s", strings.Join(acrSupported, ", "))
	}
	return nil
}
