/** The trend page's entry. */
import './ui/base.css';
import { App } from './trend/app';

const root = document.getElementById('app');
if (root === null) throw new Error('the page has no #app');
new App(root);
