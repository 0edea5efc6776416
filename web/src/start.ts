// Before anything else reads the address.
import { takeToken } from '$lib/api/token';

takeToken();
