import { mount } from 'svelte';
import './styles/tokens.css';
import './styles/base.css';
import App from './App.svelte';
import { takeToken } from '$lib/api/token';

takeToken();
mount(App, { target: document.getElementById('app')! });
