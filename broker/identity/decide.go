package identity

import "strings"

// Linking is the policy for a new identity whose verified email an account already holds.
type Linking string

// The policies.
const (
	// LinkAsk asks the person to prove the account by signing in with an identity it already has, or to go on separately.
	LinkAsk Linking = "ask"
	// LinkVerified links at once. It trusts every provider that vouches for addresses as much as the one that the account was made
	// with, and whoever holds an address now as much as whoever held it then: an address that was given to somebody else (a
	// recycled mailbox, a domain that changed hands) takes the account along.
	LinkVerified Linking = "verified"
	// LinkNever makes an account for every identity.
	LinkNever Linking = "never"
)

// Case is everything that decides what becomes of an upstream identity.
type Case struct {
	Policy Linking
	// Known is the account that the identity belongs to already; "" if nobody has it.
	Known string
	// KnownDisabled says that this account is disabled.
	KnownDisabled bool
	// EmailVerified says that the identity brings an email that its provider verified and is an authority for.
	EmailVerified bool
	// Holders are the live accounts that hold exactly this email, verified in the same sense.
	Holders []string
}

// Outcome is what becomes of an upstream identity.
type Outcome string

// The outcomes of Decide.
const (
	SignIn    Outcome = "sign_in"     // it is known: sign in to its account
	Create    Outcome = "create"      // it is new: make an account for it
	Link      Outcome = "link"        // it is new: link it to the one account that holds its email
	AskToLink Outcome = "ask_to_link" // it is new, and its email is held: ask for proof
	Refuse    Outcome = "refuse"      // its account is disabled
)

// Decide is the rule that maps identities to accounts. An identity is known by connector, issuer and subject alone, and what is
// known is never decided anew: not by an email, not by a policy.
func Decide(c Case) Outcome {
	switch {
	case c.Known != "" && c.KnownDisabled:
		return Refuse
	case c.Known != "":
		return SignIn
	case !c.EmailVerified, c.Policy == LinkNever, len(c.Holders) == 0:
		// An email that nobody vouches for never links, never asks, and so reveals nothing about who else has it.
		return Create
	case c.Policy == LinkVerified && len(c.Holders) == 1:
		return Link
	default:
		// Two holders leave nothing to link to by itself: people who went on separately once are asked again.
		return AskToLink
	}
}

// maxEmail bounds an address (RFC 5321 section 4.5.3.1.3: a path of 256 characters, with its angle brackets).
const maxEmail = 254

// normalEmail is the form in which addresses are compared: without space around, ASCII letters in lower case, and everything else byte
// by byte. There is no Unicode case folding and no normalisation, so that a homograph or a folded letter (the Kelvin sign, the dotless i) is
// another address. "" if it is none.
func normalEmail(email string) string {
	email = strings.TrimSpace(email)
	at := strings.LastIndexByte(email, '@')
	if at < 1 || at == len(email)-1 || len(email) > maxEmail {
		return ""
	}
	lower := []byte(email)
	for i, c := range lower {
		switch {
		case c <= ' ' || c == 0x7f:
			return ""
		case 'A' <= c && c <= 'Z':
			lower[i] = c + 'a' - 'A'
		}
	}
	return string(lower)
}
