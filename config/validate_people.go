package config

import (
	"fmt"
	"regexp"
	"slices"
)

const (
	// maxAccounts bounds the accounts in the configuration: it is for a few, and for tests. More belong in the store.
	maxAccounts = 1000
	// maxSubject bounds what somebody is known by (OpenID Connect Core section 2).
	maxSubject = 255
)

// accountIDForm is what an account id may be: it is a document's id and a token's sub.
var accountIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

// accounts checks what can be seen here: the broker checks the rest of an account, whose rules are its own.
func (v *validator) accounts(accounts []Account, clients []Client) {
	if len(accounts) > maxAccounts {
		v.add("accounts", fmt.Sprintf("has %d items, at most %d are allowed; make them with portico account add", len(accounts), maxAccounts))
		return
	}
	ids := map[string]int{}
	for i, a := range accounts {
		path := item("accounts", i)
		if a.Username == "" {
			v.add(path+".username", "is missing")
		}
		v.list(path+".aliases", a.Aliases, maxList)
		password, hash := !a.Password.IsZero() || a.PasswordFile != "", !a.PasswordHash.IsZero() || a.PasswordHashFile != ""
		switch {
		case password && hash:
			v.add(path+".password_hash", "is given beside a password; one of them is enough")
		case !password && !hash:
			v.add(path+".password", "is missing; give it, password_file or password_hash")
		}
		if a.ID == "" {
			continue
		}
		first, twice := ids[a.ID]
		client := slices.IndexFunc(clients, func(c Client) bool { return c.ClientID == a.ID })
		switch {
		case !accountIDForm.MatchString(a.ID):
			v.add(path+".id", quote(a.ID)+" is not 1 to 128 letters, digits and . _ : -")
		case twice:
			v.add(path+".id", fmt.Sprintf("%s is the id of %s too", quote(a.ID), item("accounts", first)))
		case client >= 0: // an app's own tokens have its id as sub (RFC 9068 section 2.2)
			v.add(path+".id", fmt.Sprintf("%s is the client_id of %s too: an api could not tell the person from the app (RFC 9700 section 4.15)", quote(a.ID), item("clients", client)))
		default:
			ids[a.ID] = i
		}
	}
}
