curl --fail-with-body "$GATEWAY_URL/api/account" -H "X-Api-Key: $API_KEY"
