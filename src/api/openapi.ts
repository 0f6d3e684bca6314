/**
 * The OpenAPI 3.1 description of the API, made from the table of routes.
 */
import * as z from 'zod';
import { document } from '../state/documents.ts';
import type { Route } from './route.ts';
import { ROUTES } from './routes.ts';
import { errorAnswer } from './schemas.ts';

type Json = Record<string, unknown>;

/** What callers write (defaults are optional there), without the checks that JSON Schema cannot say. */
function requestSchema(schema: z.ZodType): Json {
  return withoutDialect(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }));
}

function answerSchema(schema: z.ZodType): Json {
  return withoutDialect(z.toJSONSchema(schema, { io: 'output', unrepresentable: 'any' }));
}

/** OpenAPI 3.1 names the dialect once, for the whole document. */
function withoutDialect(schema: Json): Json {
  const { $schema: _dialect, ...rest } = schema;
  return rest;
}

function parametersOf(schema: z.ZodType, place: 'path' | 'query'): Json[] {
  const { properties = {}, required = [] } = requestSchema(schema) as {
    properties?: Json;
    required?: string[];
  };
  return Object.entries(properties).map(([name, value]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: value,
  }));
}

function content(schema: Json, type = 'application/json'): Json {
  return { content: { [type]: { schema } } };
}

function operationOf(route: Route): Json {
  const parameters = [...parametersOf(route.params, 'path'), ...parametersOf(route.query, 'query')];
  return {
    summary: route.summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : { requestBody: { required: true, ...content(bodySchema(route)) } }),
    responses: {
      [route.status]: {
        description: 'done',
        ...content(answerSchema(route.answer), route.contentType),
      },
      default: {
        description: 'refused; nothing was changed',
        ...content({ $ref: '#/components/schemas/Error' }),
      },
    },
  };
}

function bodySchema(route: Route): Json {
  if (route.path === '/v1/apply') {
    return {
      type: 'object',
      properties: {
        documents: { type: 'array', items: { $ref: '#/components/schemas/Document' } },
      },
      required: ['documents'],
      additionalProperties: false,
    };
  }
  return route.body === undefined ? {} : requestSchema(route.body);
}

export function openApi(version: string): Json {
  const paths: Record<string, Json> = {};
  for (const route of ROUTES) {
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operationOf(route) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'zerohop agent',
      version,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    jsonSchemaDialect: 'https://json-schema.org/draft/2020-12/schema',
    servers: [{ url: 'http://localhost', description: 'over the Unix socket of the agent' }],
    paths,
    components: {
      schemas: { Error: answerSchema(errorAnswer), Document: requestSchema(document) },
    },
  };
}
