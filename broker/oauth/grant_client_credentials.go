package oauth

// clientCredentials gives a confidential client a token of its own (RFC 6749 section 4.4): for apis that it is registered for, and
// for nothing that is about a person. There is no refresh token (section 4.4.3), and nothing is written.
func (s *Server) clientCredentials(t *tokenRequest) (*issuance, error) {
	if t.client.Public() {
		return nil, refuse(codeUnauthorizedClient, "client_credentials is for clients that authenticate")
	}
	_, target, refusal := s.policy.direct(t.client, t.wish, false)
	if refusal != nil {
		return nil, refusal
	}
	return &issuance{target: target}, nil
}
