// What the server answers. Made from its own description: `npm run types` after a change of web/openapi.json.
import type { components } from './schema';

export type Schemas = components['schemas'];

export type Summary = Schemas['Summary'];
export type Detail = Schemas['Detail'];
export type Runs = Schemas['Runs'];
export type State = Summary['state'];
export type Checkpoint = Schemas['Checkpoint'];
export type Drawn = Schemas['Drawn'];
export type Learnt = Schemas['Learnt'];
export type Kin = Schemas['Kin'];
export type Setting = Schemas['Setting'];
export type Series = Schemas['Series'];
export type Line = Schemas['Line'];
export type Marker = Schemas['Marker'];
export type Log = Schemas['Log'];
export type Message = Schemas['Message'];
export type Asking = Schemas['Ask']['kind'];
export type Done = Schemas['Done'];
export type Made = Schemas['Made'];
export type Marked = Schemas['Marked'];
export type Job = Schemas['Job'];
export type Lane = Schemas['Lane'];
export type Queue = Schemas['Queue'];
export type Hello = Schemas['Hello'];
