package control

import "trinas/replica"

// NewInvitation puts a token and the address of the node that made it into the command to type.
func NewInvitation(st replica.Status, token string) Invitation {
	inv := Invitation{Token: token, Address: st.Node.Address}
	inv.Command = "trinas join " + inv.Address + " --token " + token
	return inv
}
