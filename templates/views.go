package templates

import "time"

// App is a client as a person sees it. Its parts are the client's own words: a website that is no http or https URL, or a
// logo that is no https URL, is left out.
type App struct {
	Name    string
	Website string // its host is shown, so that a borrowed name does not pass for the real app
	LogoURL string
	// Unverified says that nobody who runs the broker has looked at the app: what it says of itself is its own word.
	Unverified bool
}

// Button is a connector to sign in with.
type Button struct {
	Name        string // what the form sends as connector
	Type        string // google, facebook, github; any other gets a plain icon
	DisplayName string // what stands after "Continue with"
}

// AccountView is the person as the page addresses them. Each part may be empty.
type AccountView struct {
	Name, Email string
	Picture     string // an https URL; anything else is left out
}

// Field is a hidden form field.
type Field struct{ Name, Value string }

// ChooserPage asks which provider to sign in with. Its first form posts to ChooseAction, with a button "connector" per connector;
// its second posts to CancelAction.
type ChooserPage struct {
	App          App
	ChooseAction string
	CancelAction string
	OnDevice     bool // the app is on another device: there is no way back to it from here
	Connectors   []Button
	// SignedInAs, if set, is who is signed in already: the first button goes on as them (continue=session).
	SignedInAs string
	// LoginHint is the account that the app suggests. It is shown only where it looks like
	// an email address, since whoever made the link wrote it.
	LoginHint string
	Notice    string // what went wrong with the last choice, if anything
}

// ConsentPage asks whether an app may have what it asked for. Its first form posts to Action with decision=allow or
// decision=deny; its second, if SwitchAction is set, goes back to the chooser.
type ConsentPage struct {
	App           App
	Action        string
	SwitchAction  string
	Account       AccountView
	Scopes        []ScopeView
	Details       []DetailView
	OfflineAccess bool // the app keeps its access while the person is away

	// GoesTo is the host that the answer goes to, which is sure whatever the app says of itself; empty where it is a program on the person's
	// own device.
	GoesTo string
	// EachTime says that the answer is not remembered, because another program could say that it is this app.
	EachTime bool
	// What the app would have people read; a URL that is no http or https URL is left out.
	PolicyURL, TermsURL string
}

// ScopeView is one scope as a person reads it.
type ScopeView struct {
	Name     string
	Sentence string // Name is shown where there is none
	API      string // the name of the api that it is for; empty for the broker's own
	New      bool   // asked for in addition to what was allowed before
}

// DetailView is one object of authorization_details as a person reads it. Its texts are the app's own words, but for Sentence and API.
type DetailView struct {
	Type     string
	Sentence string // Type is shown where there is none
	API      string
	Fields   []DetailField
}

// DetailField is what one field of it says.
type DetailField struct{ Name, Value string }

// DevicePage asks for the code that a device shows. Its one form posts user_code to Action.
type DevicePage struct {
	Action   string
	UserCode string // filled in, for the person to compare
	Notice   string // what was wrong with the last code, if anything
}

// DeviceConfirmPage asks whether an app on a device may have what it asked for. Its first form posts to Action with decision=allow
// or decision=deny; its second, if SwitchAction is set, goes back to the chooser.
type DeviceConfirmPage struct {
	App          App
	UserCode     string // as the device shows it
	Action       string
	SwitchAction string
	Account      AccountView
	Scopes       []ScopeView
	Details      []DetailView

	// Where the device's request came from. Address and UserAgent may be empty.
	Address     string
	SameNetwork bool          // Address is that of this browser
	Age         time.Duration // of the request
	UserAgent   string
}

// DeviceOutcome is what came of a device's request.
type DeviceOutcome string

// The outcomes. With any other, nobody has answered.
const (
	DeviceConnected DeviceOutcome = "connected"
	DeviceDenied    DeviceOutcome = "denied"
)

// DeviceDonePage says what came of a device's request.
type DeviceDonePage struct {
	App      App
	Outcome  DeviceOutcome
	Reason   string // why it ended, if nobody has answered and it was not the person
	AgainURL string // where the code can be entered again, if nobody has answered; http, https or a path, anything else is left out
}

// LinkPage says that an account with the new identity's email exists, and asks the person to prove that it is theirs. Its first
// form posts to ProveAction with a button "connector" per connector; its second posts to SeparateAction. Without Connectors
// the first form is left out.
type LinkPage struct {
	App            App
	Email          string
	NewConnector   string // display name of the provider that the person just came from
	ProveAction    string
	Connectors     []Button // identities that the existing account has
	SeparateAction string
	Notice         string
}

// ErrorPage says what happened and what to do. If ReturnAction is set, its first form posts there; if AgainAction is set,
// the next one posts there. Without either it links to the app's website or HomeURL, whichever there is.
type ErrorPage struct {
	Status       int // HTTP status, shown beside the reference; 0 is not shown
	Title        string
	Message      string
	WhatToDo     string
	Reference    string // finds the line in the log
	App          App    // Name may be empty
	ReturnAction string
	AgainAction  string
	HomeURL      string
}

// SignOutPage asks whether to sign out: the first button of its one form posts Hidden to Action, a link stays.
type SignOutPage struct {
	App     App // whose request it is; Name may be empty
	Action  string
	Hidden  []Field
	Account AccountView
}

// SignedOutPage says that it is done.
type SignedOutPage struct {
	App       App    // Name may be empty
	ReturnURL string // an http or https URL; anything else is left out
	// ContinueURL is where the app asked to go on, before ReturnURL: a web URL, or one of a native app's scheme that has a dot in it
	// (RFC 8252 section 7.1). Anything else is left out.
	ContinueURL string
	// GoesTo is the host of ContinueURL, where nobody vouches for that: the page says so, and does not say that it goes there by itself.
	GoesTo string
	// Frames are http or https URLs of apps that the browser calls, out of sight (OpenID Connect Front-Channel Logout section 2).
	// Anything else is left out. The page's policy must allow them.
	Frames []string
}

// FormPostPage carries an authorization response to the app through the browser (OAuth 2.0 Form Post Response Mode
// section 2).
type FormPostPage struct {
	App    App    // Name may be empty
	Action string // the redirect URI, http or https
	Fields []Field
}

// LeavePage says that an app was given nothing, and where it would have the person go on, which is theirs to decide: by a link to URL, or by a form that
// posts Fields to it if there are any.
type LeavePage struct {
	App    App
	Code   string // what went wrong, as the app is told it
	GoesTo string // the host of URL
	URL    string // an http or https URL; anything else is left out
	Fields []Field
}

// HomePage is what the broker's own address shows.
type HomePage struct {
	Issuer string
	Links  []HomeLink
}

// HomeLink is one line of the home page.
type HomeLink struct {
	Text     string
	URL      string // http, https or a path; anything else is left out, and the line with it
	Sentence string // what is there; may be empty
}
